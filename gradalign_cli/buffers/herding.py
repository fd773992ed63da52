"""Herding: of each class, the examples whose mean feature is nearest to the class's mean (Rebuffi
et al. 2017, alg. 4)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.buffers.buffer import Buffer, CapacityUnit, EndedTask, total_capacity
from gradalign_cli.buffers.per_class import per_class_buffer
from gradalign_cli.buffers.shrinking import shrinking_buffer


def herding_order(features: Tensor, count: int) -> Tensor:
    """The indices [at most count] of the chosen examples of a class, in the order of the choice.

    Features [n, F] are first normalised to length 1. The k-th example is the one that brings the
    mean of the first k nearest to the mean of all. These means are not normalised to length 1
    again, which sec. 2 of the paper says of averages.
    """
    features = normalize(features, dim=1)
    mean, total = features.mean(0), features.new_zeros(features.shape[1])
    taken = torch.zeros_like(features[:, 0], dtype=torch.bool)
    order = []
    for k in range(1, min(count, len(features)) + 1):
        distances = (mean - (total + features) / k).norm(dim=1)
        nearest = int(torch.where(taken, torch.inf, distances).argmin())
        taken[nearest] = True
        total = total + features[nearest]
        order.append(nearest)
    return torch.tensor(order, dtype=torch.long, device=features.device)


def herding_order_of_class(ended_task: EndedTask, class_in_task: int, count: int) -> Tensor:
    """The indices [at most count] of the chosen examples of one class of a task."""
    in_class = (ended_task.class_in_task == class_in_task).nonzero()[:, 0]
    return in_class[herding_order(ended_task.features[in_class], count)]


def herding(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int, shrinks: bool
) -> Buffer:
    """Examples are chosen when a task has ended, by the features that the network then has.

    shrinks: the classes of ended tasks share the whole memory, and each drops the last of its
    examples when a task has ended, as in the paper; otherwise each class of each task has its slots
    from the beginning.
    """
    if shrinks:
        total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
        return shrinking_buffer(herding_order_of_class, total, tasks, classes_per_task, True)
    return per_class_buffer(herding_order, capacity, capacity_per, tasks, classes_per_task)
