"""Uniform: a random sample of each task, taken when it has ended."""

import torch

from gradalign_cli.buffers.buffer import (
    Buffer,
    Memory,
    Selection,
    empty,
    fill,
    total_capacity,
    unchanged,
)
from gradalign_cli.buffers.ring import owned_slots, rings


def uniform(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """Every task owns slots; its examples all have the same chance of taking them."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks)

    def finish(memory: Memory, task: int, selection: Selection) -> Memory:
        chosen = torch.arange(len(selection.row))  # they come in a random order
        own = first[task] + torch.arange(int(size[task]), device=first.device)
        return fill(memory, own, selection, chosen, task)

    slots = owned_slots(size)
    return Buffer(
        lambda: empty(total, 0), unchanged, finish, slots, settled=True, task_ids="at ends"
    )
