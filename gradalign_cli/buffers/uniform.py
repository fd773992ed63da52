"""Uniform: a random sample of each task, taken when it has ended."""

import torch

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


def uniform(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """Every task owns slots; its examples all have the same chance of taking them."""
    total = total_capacity(capacity, capacity_per, tasks, classes)
    size, first = rings(total, tasks)

    def finish(memory: Memory, task: int, selection: EndedTask) -> Memory:
        chosen = torch.arange(len(selection.rows))  # they come in a random order
        own = first[task] + torch.arange(int(size[task]), device=first.device)
        return fill_slots(memory, own, selection, chosen, task)

    slots = owned_slots(size)
    return Buffer(
        lambda: empty_memory(total, 0),
        keep_memory,
        finish,
        slots,
        keeps_ended_tasks=True,
        task_ids="at ends",
    )
