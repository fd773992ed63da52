"""Class-balanced reservoir: as balanced as the stream allows, uniform within a class (CBRS,
Chrysakis & Moens 2020, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Arrivals,
    Buffer,
    CapacityUnit,
    Memory,
    empty_memory,
    keep_memory,
    total_capacity,
)
from gradalign_cli.numerics.trees import tree_index

# rows of the counters [2, groups]: how many examples of a group have arrived, and 1 once the group
# is full, which in the paper means that it has been the largest
ARRIVED, FULL = 0, 1


def balanced_reservoir(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int
) -> Buffer:
    """A group is a class of a task, so the memory is also balanced where all tasks have the same
    classes.

    While slots are empty, every example is stored. After that an example of a group that is not
    full replaces an example of one of the largest groups; an example of a full group is admitted to
    its own group as by a reservoir.
    """
    total = total_capacity(capacity, capacity_per, tasks, classes_per_task)
    all_slots = torch.arange(total)

    def insert(memory: Memory, arrivals: Arrivals) -> Memory:
        for number in range(len(arrivals.rows)):
            memory = insert_arrival(
                memory, tree_index(arrivals, number), classes_per_task, all_slots
            )
        return memory

    return Buffer(
        init=lambda: empty_memory(total, 2, tasks * classes_per_task),
        insert=insert,
        end_task=keep_memory,
        task_slots=all_slots.expand(tasks, -1),
        needed_task_ids="of each",
    )


def insert_arrival(
    memory: Memory, arrival: Arrivals, classes_per_task: int, all_slots: Tensor
) -> Memory:
    """The memory after a single arrival, whose fields have no batch dimension.

    classes_per_task: the number of classes of a task;  all_slots: the numbers [capacity] of all
    slots.
    """
    group = arrival.tasks * classes_per_task + arrival.class_in_task
    filled = memory.rows >= 0
    group_of_slot = memory.tasks * classes_per_task + memory.class_in_task
    stored = torch.zeros_like(memory.counters[0]).scatter_add(
        0, group_of_slot.clamp_min(0), filled.long()
    )
    has_room = ~filled.all()
    largest = (stored == stored.max()) & ~has_room
    is_group = torch.arange(len(stored), device=group.device) == group
    counters = torch.stack([memory.counters[ARRIVED] + is_group, memory.counters[FULL] | largest])

    def drawn_number(count: Tensor) -> Tensor:
        return (arrival.random_numbers[0].double() * count).long()

    group_full = (counters[FULL] * is_group).sum() > 0
    group_arrived, group_stored = (counters[ARRIVED] * is_group).sum(), (stored * is_group).sum()
    in_largest = filled & largest[group_of_slot.clamp_min(0)]
    reservoir_draw = drawn_number(group_arrived)
    slot = torch.where(
        has_room,
        (~filled).long().argmax(),
        torch.where(
            group_full,
            nth_candidate_slot(filled & (group_of_slot == group), reservoir_draw),
            nth_candidate_slot(in_largest, drawn_number(in_largest.sum())),
        ),
    )
    admitted = has_room | ~group_full | (reservoir_draw < group_stored)
    replaced = (all_slots.to(slot.device) == slot) & admitted
    return memory._replace(
        rows=torch.where(replaced, arrival.rows, memory.rows),
        tasks=torch.where(replaced, arrival.tasks, memory.tasks),
        class_in_task=torch.where(replaced, arrival.class_in_task, memory.class_in_task),
        stored_logits=torch.where(replaced[:, None], arrival.stored_logits, memory.stored_logits),
        counters=counters,
    )


def nth_candidate_slot(candidate_mask: Tensor, index: Tensor) -> Tensor:
    """The slot [] of the candidate with an index [], counted from 0, of a mask [capacity]; 0 where
    there are fewer candidates."""
    return (candidate_mask & (candidate_mask.cumsum(0) == index + 1)).long().argmax()
