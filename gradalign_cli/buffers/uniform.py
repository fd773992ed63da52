"""Uniform: a random sample of each task, taken when the task has ended."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Buffer,
    CapacityUnit,
    EndedTask,
    Memory,
    empty_memory,
    fill_slots,
    keep_memory,
    total_capacity,
)
from gradalign_cli.buffers.ring import ring_sizes_and_first_slots, slots_of_each_task
from gradalign_cli.buffers.shrinking import shrinking_buffer


def first_of_task(ended_task: EndedTask, unused_group: int, count: int) -> Tensor:
    """The indices [at most count] of the first examples of a task."""
    return torch.arange(min(count, len(ended_task.rows)), device=ended_task.rows.device)


def uniform(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int, shrinks: bool
) -> Buffer:
    """Every task has an equal share, and each of its examples has the same chance to be stored.

    shrinks: the tasks that have ended share the whole memory; otherwise each has its slots from the
    beginning.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    if shrinks:
        return shrinking_buffer(first_of_task, total, tasks, 1, False)
    sizes, first_slots = ring_sizes_and_first_slots(total, tasks)

    def end_task(memory: Memory, task: int, ended_task: EndedTask) -> Memory:
        indices = torch.arange(len(ended_task.rows))  # the examples come in a random order
        slots = first_slots[task] + torch.arange(int(sizes[task]), device=first_slots.device)
        return fill_slots(memory, slots, ended_task, indices, task)

    return Buffer(
        init=lambda: empty_memory(total, 0),
        insert=keep_memory,
        end_task=end_task,
        task_slots=slots_of_each_task(sizes),
        keeps_ended_tasks=True,
        needed_task_ids="at ends",
    )
