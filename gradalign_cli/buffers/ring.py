"""Ring: each task owns slots, in which its newest examples replace its oldest (GEM, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty,
    shares,
    total_capacity,
    unchanged,
    write,
)
from gradalign_cli.errors import UserError
from gradalign_cli.trees import take


def rings(capacity: int, groups: int) -> tuple[Tensor, Tensor]:
    """Size and first slot `[groups]` of each group's ring."""
    if capacity < groups:
        raise UserError(
            f"`buffer.capacity` must give every group a slot, found {capacity} for {groups} groups"
        )
    size = torch.tensor(shares(capacity, groups))
    return size, size.cumsum(0) - size


def owned_slots(size: Tensor) -> Tensor:
    """The slots [T, widest] of tasks that own `size` [T] of them each, one after the other.

    A task with one slot fewer than the widest is given its neighbour's first slot too, which the
    reading leaves out because its task is another. (The last task is nobody's earlier task.)
    """
    slots = (size.cumsum(0) - size)[:, None] + torch.arange(int(size.max()))
    return slots.clamp_max(int(size.sum()) - 1)


def insert_newest(
    memory: Memory, arrivals: Arrivals, group: Tensor, size: Tensor, first: Tensor, smallest: int
) -> Memory:
    """Write arrivals to the rings of their groups `[batch]`, first in first out.

    size, first: [groups] of the rings;  smallest: the least size.
    """
    same = group[:, None] == group
    own = take(size, group)
    slot = take(first, group) + (take(memory.counts, group) + same.tril(-1).sum(1)) % own
    counts = memory.counts.scatter_add(0, group, torch.ones_like(group))
    fits = len(group) <= smallest  # then no ring is overrun by one batch
    return write(memory, slot, None if fits else same.triu(1).sum(1) < own, arrivals, counts)


def ring(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """One ring a task."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks)
    smallest = int(size.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        return insert_newest(memory, arrivals, arrivals.task, size, first, smallest)

    return Buffer(
        lambda: empty(total, tasks),
        insert,
        unchanged,
        owned_slots(size),
        settled=True,
        task_ids="of each",
    )
