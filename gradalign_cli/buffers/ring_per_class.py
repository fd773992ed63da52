"""Ring per class: each class of each task owns slots, first in first out (A-GEM, appendix C)."""

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty_memory,
    keep_memory,
    total_capacity,
)
from gradalign_cli.buffers.ring import insert_newest, owned_slots, rings


def ring_per_class(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """One ring for every (task, class): balanced also where all tasks have the same classes."""
    total = total_capacity(capacity, capacity_per, tasks, classes)
    size, first = rings(total, tasks * classes)
    smallest = int(size.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        group = arrivals.tasks * classes + arrivals.class_positions
        return insert_newest(memory, arrivals, group, size, first, smallest)

    slots = owned_slots(size.view(tasks, classes).sum(1))
    return Buffer(
        lambda: empty_memory(total, tasks * classes),
        insert,
        keep_memory,
        slots,
        keeps_ended_tasks=True,
        task_ids="of each",
    )
