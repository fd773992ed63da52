"""Herding: of each class, the examples whose features have the class's mean (Rebuffi et al. 2017,
alg. 4)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import (
    Buffer,
    Memory,
    Selection,
    empty,
    fill,
    total_capacity,
    unchanged,
)
from gradalign_cli.buffers.ring import owned_slots, rings


def herd(features: Tensor, count: int) -> Tensor:
    """The order [count] in which examples are taken, of features [n, F] in any scale.

    Features are brought to length 1; the k-th example brings the mean of the first k nearest to the
    mean of all.
    """
    features = normalize(features, dim=1)
    mean, total = features.mean(0), torch.zeros_like(features[0])
    taken = torch.zeros(len(features), dtype=torch.bool)
    order = []
    for k in range(1, min(count, len(features)) + 1):
        distance = (mean - (total + features) / k).norm(dim=1)
        best = int(torch.where(taken, torch.inf, distance).argmin())
        taken[best] = True
        total = total + features[best]
        order.append(best)
    return torch.tensor(order, dtype=torch.long)


def herding(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """Chosen when a task has ended, from the features the network has for it then."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks * classes)

    def finish(memory: Memory, task: int, selection: Selection) -> Memory:
        for position in range(classes):
            group = task * classes + position
            member = (selection.position == position).nonzero()[:, 0]
            chosen = member[herd(selection.features[member], int(size[group]))]
            own = first[group] + torch.arange(int(size[group]))
            memory = fill(memory, own, selection, chosen, task)
        return memory

    slots = owned_slots(size.view(tasks, classes).sum(1))
    return Buffer(lambda: empty(total, 0), unchanged, finish, slots, wants_features=True)
