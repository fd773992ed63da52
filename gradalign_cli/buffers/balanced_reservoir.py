"""Class-balanced reservoir: as balanced as the stream allows, uniform within a class (CBRS,
Chrysakis & Moens 2020, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    Memory,
    empty,
    total_capacity,
    unchanged,
)
from gradalign_cli.trees import index

ARRIVED, FULL = 0, 1  # rows of the counters: how many came; 1 once a group has been the largest


def balanced_reservoir(capacity: int, per: str, tasks: int, classes: int) -> Buffer:
    """A group is a class of a task, so that it is balanced where all tasks have the same classes.

    While there is room, everything is kept. Then an example of a group that has never been the
    largest replaces one of the largest; any other plays the reservoir's game within its group.
    """
    total = total_capacity(capacity, per, tasks, classes)
    groups = tasks * classes
    slots = torch.arange(total)

    def pick(candidates: Tensor, number: Tensor) -> Tensor:
        """The slot [] that is the `number`-th of the candidates [capacity]."""
        return (candidates & (candidates.cumsum(0) == number + 1)).long().argmax()

    def insert_one(memory: Memory, arrival: Arrivals) -> Memory:
        group = arrival.task * classes + arrival.position
        held = memory.row >= 0
        owner = memory.task * classes + memory.position
        kept = torch.zeros_like(memory.counts[0]).scatter_add(0, owner.clamp_min(0), held.long())
        room = ~held.all()
        largest = (kept == kept.max()) & ~room
        counts = memory.counts.clone()
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
            row=torch.where(here, arrival.row, memory.row),
            task=torch.where(here, arrival.task, memory.task),
            position=torch.where(here, arrival.position, memory.position),
            stored=torch.where(here[:, None], arrival.stored, memory.stored),
            counts=counts,
        )

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        for number in range(len(arrivals.row)):
            memory = insert_one(memory, index(arrivals, number))
        return memory

    all_slots = slots.expand(tasks, -1)
    return Buffer(lambda: empty(total, 2, groups), insert, unchanged, all_slots, task_ids="of each")
