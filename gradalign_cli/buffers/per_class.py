"""Buffers that choose of each class when a task has ended, from the network's features for it."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Buffer,
    EndedTask,
    Memory,
    empty_memory,
    fill_slots,
    keep_memory,
    total_capacity,
)
from gradalign_cli.buffers.ring import owned_slots, rings

Choose = Callable[[Tensor, int], Tensor]  # (features [n, F], k) -> at most k of their numbers


def chosen_per_class(
    choose: Choose, capacity: int, capacity_per: str, tasks: int, classes: int
) -> Buffer:
    """Every class of a task owns slots, filled by `choose`; examples come in a random order."""
    total = total_capacity(capacity, capacity_per, tasks, classes)
    size, first = rings(total, tasks * classes)

    def finish(memory: Memory, task: int, selection: EndedTask) -> Memory:
        for position in range(classes):
            group = task * classes + position
            member = (selection.class_positions == position).nonzero()[:, 0]
            chosen = member[choose(selection.features[member], int(size[group]))]
            own = first[group] + torch.arange(int(size[group]), device=first.device)
            memory = fill_slots(memory, own, selection, chosen, task)
        return memory

    slots = owned_slots(size.view(tasks, classes).sum(1))
    return Buffer(
        lambda: empty_memory(total, 0),
        keep_memory,
        finish,
        slots,
        needs_features=True,
        keeps_ended_tasks=True,
        task_ids="at ends",
    )
