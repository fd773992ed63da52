"""Ring: each task owns slots, in which its newest examples replace its oldest (GEM, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty,
    rank,
    shares,
    total_capacity,
    unchanged,
    write,
)
from gradalign_cli.errors import UserError


def rings(capacity: int, groups: int) -> tuple[Tensor, Tensor]:
    """Size and first slot `[groups]` of each group's ring."""
    if capacity < groups:
        raise UserError(
            f"`buffer.capacity` must give every group a slot, found {capacity} for {groups} groups"
        )
    size = torch.tensor(shares(capacity, groups))
    return size, size.cumsum(0) - size


def insert_newest(
    memory: Memory, arrivals: Arrivals, group: Tensor, size: Tensor, first: Tensor
) -> Memory:
    """Write arrivals to the rings of their groups `[batch]`, first in first out."""
    earlier = rank(group)
    later = rank(group.flip(0)).flip(0)
    slot = first[group] + (memory.arrived[group] + earlier) % size[group]
    arrived = memory.arrived.scatter_add(0, group, torch.ones_like(group))
    return write(memory, slot, later < size[group], arrivals, arrived)


def ring(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """One ring a task."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks)
    widest = int(size.max())
    # a task with one slot fewer reads its last slot twice at most: the second is its neighbour's,
    # which the reading leaves out because its task is another
    slots = (first[:, None] + torch.arange(widest)).clamp_max(total - 1)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        return insert_newest(memory, arrivals, arrivals.task, size, first)

    return Buffer(lambda: empty(total, tasks), insert, unchanged, slots)
