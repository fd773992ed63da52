"""Shrinking shares: the ended tasks have the whole memory, and give up examples as tasks come
(Rebuffi et al. 2017, alg. 5)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.buffers.buffer import (
    Buffer,
    EndedTask,
    Memory,
    empty_memory,
    even_shares,
    fill_slots,
    keep_memory,
)

# (ended task, group in the task, k) -> the indices of at most k chosen examples of the group
ChooseOfGroup = Callable[[EndedTask, int, int], Tensor]


class ShrunkMemory(NamedTuple):
    """memory: with its examples in the first slots;  filled_slots: how many they are."""

    memory: Memory
    filled_slots: int


def shrink_to_group_shares(
    memory: Memory, slot_groups: Tensor, group_shares: list[int]
) -> ShrunkMemory:
    """The memory with the first `group_shares[k]` examples of each group k alone, moved to the
    first slots.  slot_groups: [capacity] the group of the example in each slot."""
    group_slots = (
        ((slot_groups == group) & (memory.rows >= 0)).nonzero()[:share, 0]
        for group, share in enumerate(group_shares)
    )
    slots = torch.cat([slot_groups[:0], *group_slots])

    def moved(field: Tensor, empty: int) -> Tensor:
        return torch.cat([field[slots], torch.full_like(field[len(slots) :], empty)])

    remaining = memory._replace(
        rows=moved(memory.rows, -1),
        tasks=moved(memory.tasks, -1),
        class_in_task=moved(memory.class_in_task, -1),
        stored_logits=moved(memory.stored_logits, 0),
    )
    return ShrunkMemory(remaining, len(slots))


def shrinking_buffer(
    choose_of_group: ChooseOfGroup,
    total_slots: int,
    tasks: int,
    groups_per_task: int,
    needs_features: bool,
) -> Buffer:
    """When a task has ended, all groups of all ended tasks get equal shares of the memory. The
    groups of earlier tasks keep the first of their examples, and `choose_of_group` fills the
    shares of the ended task, whose examples come in a random order.

    groups_per_task: a class is a group where it is the number of classes of a task, a task where
    it is 1.
    """

    def end_task(memory: Memory, task: int, ended_task: EndedTask) -> Memory:
        earlier = task * groups_per_task
        shares = even_shares(total_slots, earlier + groups_per_task)
        group_in_task = memory.class_in_task if groups_per_task > 1 else 0
        slot_groups = memory.tasks * groups_per_task + group_in_task
        memory, filled = shrink_to_group_shares(memory, slot_groups, shares[:earlier])
        for group, share in enumerate(shares[earlier:]):
            indices = choose_of_group(ended_task, group, share)
            slots = torch.arange(filled, filled + len(indices), device=indices.device)
            memory = fill_slots(memory, slots, ended_task, indices, task)
            filled += len(indices)
        return memory

    return Buffer(
        init=lambda: empty_memory(total_slots, 0),
        insert=keep_memory,
        end_task=end_task,
        task_slots=torch.arange(total_slots).expand(tasks, -1),
        needs_features=needs_features,
        needed_task_ids="at ends",
    )
