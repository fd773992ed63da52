"""Reservoir: after n examples, each of them is stored with probability capacity / n (Vitter
1985)."""

import torch

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    CapacityUnit,
    Memory,
    empty_memory,
    keep_memory,
    total_capacity,
    write_to_slots,
)


def reservoir(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int
) -> Buffer:
    """Algorithm R. The first `capacity` examples fill the slots; after that example n (from 1)
    takes slot floor(u * n), with u uniform in [0, 1), if there is such a slot."""
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        number = memory.counters + torch.arange(len(arrivals.rows), device=arrivals.rows.device)
        drawn = (arrivals.random_numbers[:, 0].double() * (number + 1)).long()
        slot = torch.where(number < total, number, drawn)
        # of two arrivals for one slot the later one is stored
        overwritten = (slot[:, None] == slot).triu(1).any(1)
        counters = memory.counters + len(arrivals.rows)
        return write_to_slots(memory, slot, (slot < total) & ~overwritten, arrivals, counters)

    return Buffer(
        init=lambda: empty_memory(total, 1),
        insert=insert,
        end_task=keep_memory,
        task_slots=torch.arange(total).expand(tasks, -1),
    )
