"""Ring: each task owns slots, in which its newest examples replace its oldest (GEM, sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty_memory,
    even_shares,
    keep_memory,
    total_capacity,
    write_to_slots,
)
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.trees import take_rows


def rings(capacity: int, groups: int) -> tuple[Tensor, Tensor]:
    """Size and first slot `[groups]` of each group's ring."""
    if capacity < groups:
        raise UserError(
            f"`buffer.capacity` must give every group a slot, found {capacity} for {groups} groups"
        )
    size = torch.tensor(even_shares(capacity, groups))
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
    own = take_rows(size, group)
    slot = (
        take_rows(first, group) + (take_rows(memory.counters, group) + same.tril(-1).sum(1)) % own
    )
    counts = memory.counters.scatter_add(0, group, torch.ones_like(group))
    fits = len(group) <= smallest  # then no ring is overrun by one batch
    return write_to_slots(
        memory, slot, None if fits else same.triu(1).sum(1) < own, arrivals, counts
    )


def ring(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """One ring a task."""
    total = total_capacity(capacity, capacity_per, tasks, classes)
    size, first = rings(total, tasks)
    smallest = int(size.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        return insert_newest(memory, arrivals, arrivals.tasks, size, first, smallest)

    return Buffer(
        lambda: empty_memory(total, tasks),
        insert,
        keep_memory,
        owned_slots(size),
        keeps_ended_tasks=True,
        task_ids="of each",
    )
