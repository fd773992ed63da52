"""Ring per class: each class of each task has its own slots, first in, first out (A-GEM,
appendix C)."""

import torch

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    CapacityUnit,
    Memory,
    empty_memory,
    keep_memory,
    total_capacity,
)
from gradalign_cli.buffers.ring import (
    insert_newest,
    ring_sizes_and_first_slots,
    slots_of_each_task,
)


def ring_per_class(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int
) -> Buffer:
    """One ring for every class of every task, so that the memory is also balanced where all tasks
    have the same classes."""
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    sizes, first_slots = ring_sizes_and_first_slots(total, tasks * classes_per_task)
    smallest_ring_size = int(sizes.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        groups = torch.add(arrivals.class_in_task, arrivals.tasks, alpha=classes_per_task)
        return insert_newest(memory, arrivals, groups, sizes, first_slots, smallest_ring_size)

    return Buffer(
        init=lambda: empty_memory(total, tasks * classes_per_task),
        insert=insert,
        end_task=keep_memory,
        task_slots=slots_of_each_task(sizes.view(tasks, classes_per_task).sum(1)),
        keeps_ended_tasks=True,
        needed_task_ids="of each",
    )
