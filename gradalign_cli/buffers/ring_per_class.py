"""Ring per class: each class of each task owns slots, first in first out (A-GEM, appendix C)."""

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty,
    total_capacity,
    unchanged,
)
from gradalign_cli.buffers.ring import insert_newest, owned_slots, rings


def ring_per_class(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """One ring for every (task, class): balanced also where all tasks have the same classes."""
    total = total_capacity(capacity, per, tasks, classes)
    size, first = rings(total, tasks * classes)
    smallest = int(size.min())

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        group = arrivals.task * classes + arrivals.position
        return insert_newest(memory, arrivals, group, size, first, smallest)

    slots = owned_slots(size.view(tasks, classes).sum(1))
    return Buffer(
        lambda: empty(total, tasks * classes),
        insert,
        unchanged,
        slots,
        settled=True,
        task_ids="of each",
    )
