"""Buffers that choose examples of each class when a task has ended, by the network's features."""

from collections.abc import Callable

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

# (features [n, F] of a class's examples, k) -> the indices of at most k chosen examples
ChooseExamples = Callable[[Tensor, int], Tensor]


def per_class_buffer(
    choose_examples: ChooseExamples,
    capacity: int,
    capacity_per: CapacityUnit,
    tasks: int,
    classes_per_task: int,
) -> Buffer:
    """Every class of every task has its own slots, which `choose_examples` fills when the task has
    ended. It is given the examples in a random order."""
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    sizes, first_slots = ring_sizes_and_first_slots(total, tasks * classes_per_task)

    def end_task(memory: Memory, task: int, ended_task: EndedTask) -> Memory:
        for class_in_task in range(classes_per_task):
            group = task * classes_per_task + class_in_task
            in_class = (ended_task.class_in_task == class_in_task).nonzero()[:, 0]
            if not len(in_class):  # the task had no example of the class: its slots stay empty
                continue
            indices = in_class[choose_examples(ended_task.features[in_class], int(sizes[group]))]
            slots = first_slots[group] + torch.arange(int(sizes[group]), device=first_slots.device)
            memory = fill_slots(memory, slots, ended_task, indices, task)
        return memory

    return Buffer(
        init=lambda: empty_memory(total, 0),
        insert=keep_memory,
        end_task=end_task,
        task_slots=slots_of_each_task(sizes.view(tasks, classes_per_task).sum(1)),
        needs_features=True,
        keeps_ended_tasks=True,
        needed_task_ids="at ends",
    )
