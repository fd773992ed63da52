"""Herding: of each class, the examples whose features have the class's mean (Rebuffi et al. 2017,
alg. 4)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.buffers.per_class import chosen_per_class


def herd(features: Tensor, count: int) -> Tensor:
    """The order [count] in which examples are taken, of features [n, F] in any scale.

    Features are brought to length 1; the k-th example brings the mean of the first k nearest to the
    mean of all.
    """
    features = normalize(features, dim=1)
    mean, total = features.mean(0), torch.zeros_like(features[0])
    taken = torch.zeros_like(features[:, 0], dtype=torch.bool)
    order = []
    for k in range(1, min(count, len(features)) + 1):
        distance = (mean - (total + features) / k).norm(dim=1)
        best = int(torch.where(taken, torch.inf, distance).argmin())
        taken[best] = True
        total = total + features[best]
        order.append(best)
    return torch.tensor(order, dtype=torch.long, device=features.device)


def herding(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """Chosen when a task has ended, from the features the network has for it then."""
    return chosen_per_class(herd, capacity, capacity_per, tasks, classes)
