"""Class-balanced reservoir: as balanced as the stream allows, uniform within a class (CBRS,
Chrysakis & Moens 2020, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty_memory,
    keep_memory,
    total_capacity,
)
from gradalign_cli.numerics.trees import tree_index

ARRIVED, FULL = 0, 1  # rows of the counters: how many came; 1 once a group has been the largest


def balanced_reservoir(capacity: int, capacity_per: str, tasks: int, classes: int) -> Buffer:
    """A group is a class of a task, so that it is balanced where all tasks have the same classes.

    While there is room, everything is kept. Then an example of a group that has never been the
    largest replaces one of the largest; any other plays the reservoir's game within its group.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes)
    groups = tasks * classes
    slots = torch.arange(total)

    def pick(candidates: Tensor, number: Tensor) -> Tensor:
        """The slot [] that is the `number`-th of the candidates [capacity]."""
        return (candidates & (candidates.cumsum(0) == number + 1)).long().argmax()

    def insert_one(memory: Memory, arrival: Arrivals) -> Memory:
        group = arrival.tasks * classes + arrival.class_positions
        held = memory.rows >= 0
        owner = memory.tasks * classes + memory.class_positions
        kept = torch.zeros_like(memory.counters[0]).scatter_add(0, owner.clamp_min(0), held.long())
        room = ~held.all()
        largest = (kept == kept.max()) & ~room
        counts = memory.counters.clone()
        mine = torch.arange(groups, device=group.device) == group
        counts = torch.stack([counts[ARRIVED] + mine, counts[FULL] | largest])

        def drawn(number: Tensor) -> Tensor:
            return (arrival.uniform[0].double() * number).long()

        own_full = (counts[FULL] * mine).sum() > 0
        arrived, own = (counts[ARRIVED] * mine).sum(), (kept * mine).sum()
        crowd = held & largest[owner.clamp_min(0)]
        chance = drawn(arrived)
        slot = torch.where(
            room,
            (~held).long().argmax(),
            torch.where(
                own_full, pick(held & (owner == group), chance), pick(crowd, drawn(crowd.sum()))
            ),
        )
        here = (slots.to(slot.device) == slot) & (room | ~own_full | (chance < own))
        return memory._replace(
            rows=torch.where(here, arrival.rows, memory.rows),
            tasks=torch.where(here, arrival.tasks, memory.tasks),
            class_positions=torch.where(here, arrival.class_positions, memory.class_positions),
            stored_logits=torch.where(here[:, None], arrival.stored_logits, memory.stored_logits),
            counters=counts,
        )

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        for number in range(len(arrivals.rows)):
            memory = insert_one(memory, tree_index(arrivals, number))
        return memory

    all_slots = slots.expand(tasks, -1)
    return Buffer(
        lambda: empty_memory(total, 2, groups), insert, keep_memory, all_slots, task_ids="of each"
    )
