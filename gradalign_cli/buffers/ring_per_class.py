"""Ring per class: each class of each task owns slots, first in first out (A-GEM, appendix C)."""

import torch

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty,
    total_capacity,
    unchanged,
)
from gradalign_cli.buffers.ring import insert_newest, rings


def ring_per_class(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """One ring for every (task, class): balanced also where all tasks have the same classes."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks * classes)
    owned = size.view(tasks, classes).sum(1)
    start = owned.cumsum(0) - owned
    slots = (start[:, None] + torch.arange(int(owned.max()))).clamp_max(total - 1)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        group = arrivals.task * classes + arrivals.position
        return insert_newest(memory, arrivals, group, size, first)

    return Buffer(lambda: empty(total, tasks * classes), insert, unchanged, slots)
