"""What a memory buffer is, and how slots are written and read."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.numerics.trees import Absent, take_rows


class Memory(NamedTuple):
    """Rows of the dataset, not pixels: a replica's memory costs bytes.

    row, task, position: [capacity] of each slot, row -1 where it is empty;
    stored: [capacity, K] logits kept with each example, K = 0 where the method keeps none;
    counts: the policy's own counters, such as how many examples of each group have arrived;
    score: [capacity] a number the policy keeps with each example, [0] where it keeps none.
    """

    rows: Tensor
    tasks: Tensor
    class_positions: Tensor
    stored_logits: Tensor
    counters: Tensor
    scores: Tensor


class Measurements(NamedTuple):
    """What a buffer wants to know of the network as the step leaves it.

    arrivals: the loss of each [batch], or the cosines [batch, n] of its gradient to those of a few
    stored examples;  stored: the losses [n] of these, absent with cosines;  slot, weight: [n] where
    they are stored, and 1, or 0 for what only fills a place.
    """

    of_arrivals: Tensor
    of_stored: Tensor | Absent
    slots: Tensor
    valid: Tensor


class Arrivals(NamedTuple):
    """A batch offered to the buffer: [batch] rows, their tasks, class positions, uniforms [batch,
    U], logits [batch, K] to be kept with them, and what the buffer wants to know, if anything."""

    rows: Tensor
    tasks: Tensor
    class_positions: Tensor
    uniform: Tensor
    stored_logits: Tensor
    measurements: Measurements | Absent = ()


class EndedTask(NamedTuple):
    """A finished task offered to the buffer, in a random order: [n] each, features [n, F], logits
    [n, K] to be kept."""

    rows: Tensor
    class_positions: Tensor
    features: Tensor
    stored_logits: Tensor


class Buffer(NamedTuple):
    """A policy as pure functions.

    insert: what happens to the memory in every step;  finish: what happens after a task, given
    (memory, task, selection);  slots: [T, K] the slots that can hold examples of each task;
    wants_features: whether `finish` needs the network's features of the task's examples;
    wants: what `insert` needs to know of each arrival and `looks` stored examples, drawn anew in
    every step: losses, or cosines of their gradients;  uniforms: how many random numbers it needs
    for each arrival;  settled: whether what an ended task has in memory stays as it is while others
    come;  task_ids: what the policy must be told of tasks, in the words of
    `methods.method.task_ids`.
    """

    init: Callable[[], Memory]
    insert: Callable[[Memory, Arrivals], Memory]
    end_task: Callable[[Memory, int, EndedTask], Memory]
    task_slots: Tensor
    needs_features: bool = False
    measures: Literal["nothing", "losses", "cosines"] = "nothing"
    measured_examples: int = 0
    uniforms_per_arrival: int = 1
    keeps_ended_tasks: bool = False
    task_ids: str = "no"


def empty_memory(capacity: int, *counters: int, scored: bool = False) -> Memory:
    """A memory of empty slots, with counters of the given shape, and scores if any, at zero."""
    none = torch.full((capacity,), -1)
    counts, score = torch.zeros(counters, dtype=torch.long), torch.zeros(capacity * scored)
    return Memory(none, none.clone(), none.clone(), torch.zeros(capacity, 0), counts, score)


def keep_memory(memory: Memory, *_: object) -> Memory:
    """The policy of doing nothing."""
    return memory


def total_capacity(capacity: int, capacity_per: str, tasks: int, classes: int) -> int:
    """The number of slots, where `capacity` is given in total, per task or per class of a task."""
    require(
        capacity_per in ("total", "task", "class"),
        "buffer.capacity_per",
        "total, task or class",
        capacity_per,
    )
    require(
        isinstance(capacity, int) and capacity > 0,
        "buffer.capacity",
        "a positive whole number",
        capacity,
    )
    return capacity * {"total": 1, "task": tasks, "class": tasks * classes}[capacity_per]


def even_shares(total: int, groups: int) -> list[int]:
    """`total` dealt out to groups as evenly as can be, the remainder to the first ones."""
    return [total // groups + (group < total % groups) for group in range(groups)]


def write_to_slots(
    memory: Memory, slot: Tensor, keep: Tensor | None, arrivals: Arrivals, counts: Tensor
) -> Memory:
    """Put the kept arrivals `[batch]`, all if None, into their slots, which are all different."""
    capacity = len(memory.rows)
    slot = slot if keep is None else torch.where(keep, slot, capacity)

    def put(field: Tensor, value: Tensor) -> Tensor:
        index = slot if value.ndim == 1 else slot[:, None].expand_as(value)
        if keep is None:
            return field.scatter(0, index, value)
        spare = torch.cat([field, field[:1]])  # one slot more, for what is not kept
        return spare.scatter(0, index, value)[:capacity]

    return memory._replace(
        rows=put(memory.rows, arrivals.rows),
        tasks=put(memory.tasks, arrivals.tasks),
        class_positions=put(memory.class_positions, arrivals.class_positions),
        stored_logits=put(memory.stored_logits, arrivals.stored_logits)
        if arrivals.stored_logits.shape[1]
        else memory.stored_logits,
        counters=counts,
    )


def write_from_sources(memory: Memory, source: Tensor, arrivals: Arrivals) -> Memory:
    """Put into each slot the arrival that `source` [capacity] names, -1 for none."""
    new = source >= 0
    number = source.clamp_min(0)
    return memory._replace(
        rows=torch.where(new, take_rows(arrivals.rows, number), memory.rows),
        tasks=torch.where(new, take_rows(arrivals.tasks, number), memory.tasks),
        class_positions=torch.where(
            new, take_rows(arrivals.class_positions, number), memory.class_positions
        ),
        stored_logits=torch.where(
            new[:, None], take_rows(arrivals.stored_logits, number), memory.stored_logits
        ),
    )


def draw_slot(weight: Tensor, uniform: Tensor) -> Tensor:
    """The slot [] that a number [] from [0, 1) draws, each with a chance in proportion to its
    weight [capacity]; no slot, `capacity`, where all weights are 0."""
    reach = weight.double().cumsum(0)
    return (reach <= uniform * reach[-1]).sum()


def fill_slots(
    memory: Memory, slots: Tensor, selection: EndedTask, chosen: Tensor, task: int
) -> Memory:
    """Put the chosen examples of an ended task into the first of `slots`, as many as fit."""
    chosen = chosen[: len(slots)]
    slots = slots[: len(chosen)]
    return memory._replace(
        rows=memory.rows.index_copy(0, slots, selection.rows[chosen]),
        tasks=memory.tasks.index_fill(0, slots, task),
        class_positions=memory.class_positions.index_copy(
            0, slots, selection.class_positions[chosen]
        ),
        stored_logits=memory.stored_logits.index_copy(0, slots, selection.stored_logits[chosen]),
    )


class MemorySample(NamedTuple):
    """Examples read from memory: [M, n] slots, rows, their tasks, weight 1 or 0 (nothing there)."""

    slots: Tensor
    rows: Tensor
    tasks: Tensor
    valid: Tensor


def sample_allowed(
    values: Tensor, allowed: Tensor, size: int, key: Tensor | Absent
) -> tuple[Tensor, Tensor]:
    """Of each row of `values` [M, K] the `size` with the largest keys [M, K] where `allowed`, and
    which [M, size] of them are; keys are needed only when `size < K`.

    Where fewer are allowed, all of them are picked and the rest repeats one of them.
    """
    if isinstance(key, Tensor):
        key, chosen = torch.where(allowed, key, -1.0).topk(size, dim=1)
        values, allowed = values.gather(1, chosen), key >= 0
        stand_in = values[:, :1]  # the largest key comes first
    else:
        stand_in = values.gather(1, allowed.long().argmax(1, keepdim=True))
    return torch.where(allowed, values, stand_in), allowed


def sample_memory(
    memory: Memory, slots: Tensor, allowed: Tensor, size: int, uniform: Tensor
) -> MemorySample:
    """`size` examples without replacement of each row of `slots` `[M, K]` where `allowed`.

    uniform: [capacity] keys, needed only when `size < K`. Where fewer are allowed, all of them are
    read and the rest repeats one of them at weight 0.
    """
    key = take_rows(uniform, slots) if size < slots.shape[1] else ()
    slots, allowed = sample_allowed(slots, allowed, size, key)
    row, task = take_rows(memory.rows, slots), take_rows(memory.tasks, slots)
    return MemorySample(slots, row.clamp_min(0), task.clamp_min(0), allowed.float())
