"""Ring: each task has its own slots, in which its newest examples replace its oldest (GEM,
sec. 3)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    CapacityUnit,
    Memory,
    empty_memory,
    even_shares,
    keep_memory,
    total_capacity,
    write_to_slots,
)
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.trees import take_rows


def ring_sizes_and_first_slots(capacity: int, groups: int) -> tuple[Tensor, Tensor]:
    """The size [groups] and the first slot [groups] of each group's ring. Raises UserError where
    there are fewer slots than groups."""
    if capacity < groups:
        raise UserError(
            f"`buffer.capacity` must give every group a slot, found {capacity} for {groups} groups"
        )
    sizes = torch.tensor(even_shares(capacity, groups))
    return sizes, sizes.cumsum(0) - sizes


def slots_of_each_task(slots_per_task: Tensor) -> Tensor:
    """The slots [T, K] of tasks that own `slots_per_task` [T] slots each, one task after the other,
    where K is the largest of these numbers.

    A task with fewer slots than K also lists the first slots of its successor. These are not read
    as its own, because the stored task of their examples is another one. (The last task lists its
    last slot again; it is never an earlier task.)
    """
    slots = (slots_per_task.cumsum(0) - slots_per_task)[:, None] + torch.arange(
        int(slots_per_task.max())
    )
    return slots.clamp_max(int(slots_per_task.sum()) - 1)


def insert_newest(
    memory: Memory,
    arrivals: Arrivals,
    arrival_groups: Tensor,
    ring_sizes: Tensor,
    first_slots: Tensor,
    smallest_ring_size: int,
) -> Memory:
    """Write arrivals to the rings of their groups [batch], first in, first out.

    ring_sizes, first_slots: [groups] of the rings;  smallest_ring_size: the smallest of the sizes.
    """
    same_group = arrival_groups[:, None] == arrival_groups
    number = take_rows(memory.counters, arrival_groups) + same_group.tril(-1).sum(1)
    if smallest_ring_size * len(ring_sizes) == len(memory.rows):  # all rings have one size
        arrival_sizes: Tensor | int = smallest_ring_size
        slot = torch.add(number % smallest_ring_size, arrival_groups, alpha=smallest_ring_size)
    else:
        arrival_sizes = take_rows(ring_sizes, arrival_groups)
        slot = take_rows(first_slots, arrival_groups) + number % arrival_sizes
    counters = memory.counters.scatter(0, arrival_groups, 1, reduce="add")
    # then no arrival overwrites one of its own batch
    fits = len(arrival_groups) <= smallest_ring_size
    newest = None if fits else same_group.triu(1).sum(1) < arrival_sizes
    return write_to_slots(memory, slot, newest, arrivals, counters)


def ring(capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int) -> Buffer:
    """One ring for every task."""
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    sizes, first_slots = ring_sizes_and_first_slots(total, tasks)
    smallest_ring_size = int(sizes.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        return insert_newest(
            memory, arrivals, arrivals.tasks, sizes, first_slots, smallest_ring_size
        )

    return Buffer(
        init=lambda: empty_memory(total, tasks),
        insert=insert,
        end_task=keep_memory,
        task_slots=slots_of_each_task(sizes),
        keeps_ended_tasks=True,
        needed_task_ids="of each",
    )
