"""What a memory buffer is, and how slots are written and read."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.numerics.trees import Absent, take_rows

CapacityUnit = Literal["total", "task", "class"]


class Memory(NamedTuple):
    """The stored examples, as rows of the dataset and not as pixels, so that an example takes bytes
    and not kilobytes.

    rows, tasks, class_in_task: [capacity] of the example in each slot, -1 where it is empty.
    stored_logits: [capacity, K] of each example, K = 0 where the method stores none.
    counters:      the buffer's own counters, such as how many examples of each group have arrived.
    scores:        [capacity] a number that the buffer stores with each example, [0] where it stores
                   none.
    """

    rows: Tensor
    tasks: Tensor
    class_in_task: Tensor
    stored_logits: Tensor
    counters: Tensor
    scores: Tensor


class Measurements(NamedTuple):
    """What a step measures for a buffer on the network that it leaves behind: losses, or cosines
    between gradients.

    arrival_losses_or_cosines: the loss [batch] of each arrival, or the cosines [batch, n] between
                               its gradient and those of n stored examples.
    stored_losses:             [n] of the stored examples, absent with cosines.
    stored_slots:              [n] where the stored examples are.
    stored_valid:              [n] 1, or 0 for padding.
    batch_gradient_cosines:    [n] between the arrivals' mean gradient and those of the stored
                               examples, absent with losses.
    """

    arrival_losses_or_cosines: Tensor
    stored_losses: Tensor | Absent
    stored_slots: Tensor
    stored_valid: Tensor
    batch_gradient_cosines: Tensor | Absent = ()


class Arrivals(NamedTuple):
    """A batch offered to the buffer.

    rows, tasks, class_in_task: [batch].
    random_numbers: [batch, U] random numbers from [0, 1).
    stored_logits: [batch, K] to be stored with the examples.
    measurements:  those that the buffer asks for, absent where it asks for none.
    """

    rows: Tensor
    tasks: Tensor
    class_in_task: Tensor
    random_numbers: Tensor
    stored_logits: Tensor
    measurements: Measurements | Absent = ()


class EndedTask(NamedTuple):
    """The examples of an ended task, offered to the buffer in a random order.

    rows, class_in_task: [n];  features: [n, F] of the network, F = 0 where nothing needs the
    network;  stored_logits: [n, K] to be stored with the examples, K = 0 where the method stores
    none.
    """

    rows: Tensor
    class_in_task: Tensor
    features: Tensor
    stored_logits: Tensor


class Buffer(NamedTuple):
    """A policy that decides which examples the memory stores, as pure functions.

    init:                 () -> an empty memory.
    insert:               (memory, arrivals) -> memory, in every step after the update.
    end_task:             (memory, task, ended_task) -> memory, after a task.
    task_slots:           [T, K] the slots that can hold examples of each task.
    needs_features:       whether `end_task` needs the network's features.
    measures:             what a step measures for `insert` on the arrivals and on some stored
                          examples, drawn anew in every step: their losses, or the cosines between
                          their gradients.
    measured_examples:    how many stored examples are measured.
    uniforms_per_arrival: how many random numbers `insert` needs for each arrival.
    keeps_ended_tasks:    whether the stored examples of an ended task stay the same while other
                          tasks come.
    needed_task_ids:      what the buffer must be told of tasks, in the words of
                          `methods.method.needed_task_ids`.
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
    needed_task_ids: Literal["no", "at ends", "of each"] = "no"


def empty_memory(capacity: int, *counter_shape: int, has_scores: bool = False) -> Memory:
    """A memory of empty slots, with counters of the given shape, and scores if any, at zero."""
    empty = torch.full((capacity,), -1)
    counters = torch.zeros(counter_shape, dtype=torch.long)
    scores = torch.zeros(capacity * has_scores)
    return Memory(empty, empty.clone(), empty.clone(), torch.zeros(capacity, 0), counters, scores)


def keep_memory(memory: Memory, *_: object) -> Memory:
    """The memory as it is: a buffer's answer where it does nothing."""
    return memory


def total_capacity(
    capacity: int, capacity_per: CapacityUnit, tasks: int, classes_per_task: int
) -> int:
    """The number of slots, where `capacity` is given in total, per task, or per class of a task.

    classes_per_task: the number of classes of a task. Raises UserError where a value is out of its
    domain.
    """
    require_choice(CapacityUnit, "buffer.capacity_per", capacity_per)
    require(
        isinstance(capacity, int) and capacity > 0,
        "buffer.capacity",
        "a positive whole number",
        capacity,
    )
    return capacity * {"total": 1, "task": tasks, "class": tasks * classes_per_task}[capacity_per]


def even_shares(total: int, groups: int) -> list[int]:
    """`total` divided among groups as evenly as possible, the remainder to the first groups."""
    return [total // groups + (group < total % groups) for group in range(groups)]


def write_to_slots(
    memory: Memory,
    slot_of_arrival: Tensor,
    admitted: Tensor | None,
    arrivals: Arrivals,
    counters: Tensor,
) -> Memory:
    """Write the admitted arrivals [batch], all where `admitted` is None, to their slots [batch],
    of which no two may be equal, and set the counters."""
    capacity = len(memory.rows)
    slots = slot_of_arrival
    if admitted is not None:
        slots = torch.where(admitted, slots, capacity)

    def written(field: Tensor, values: Tensor) -> Tensor:
        index = slots if values.ndim == 1 else slots[:, None].expand_as(values)
        if admitted is None:
            return field.scatter(0, index, values)
        extended = torch.cat([field, field[:1]])  # one slot more, for arrivals not admitted
        return extended.scatter(0, index, values)[:capacity]

    return memory._replace(
        rows=written(memory.rows, arrivals.rows),
        tasks=written(memory.tasks, arrivals.tasks),
        class_in_task=written(memory.class_in_task, arrivals.class_in_task),
        stored_logits=written(memory.stored_logits, arrivals.stored_logits)
        if arrivals.stored_logits.shape[1]
        else memory.stored_logits,
        counters=counters,
    )


def write_chosen_arrivals(memory: Memory, arrival_of_slot: Tensor, arrivals: Arrivals) -> Memory:
    """Write to each slot the arrival whose number is in `arrival_of_slot` [capacity]; -1 leaves the
    slot as it is."""
    replaced = arrival_of_slot >= 0
    numbers = arrival_of_slot.clamp_min(0)
    return memory._replace(
        rows=torch.where(replaced, take_rows(arrivals.rows, numbers), memory.rows),
        tasks=torch.where(replaced, take_rows(arrivals.tasks, numbers), memory.tasks),
        class_in_task=torch.where(
            replaced, take_rows(arrivals.class_in_task, numbers), memory.class_in_task
        ),
        stored_logits=torch.where(
            replaced[:, None], take_rows(arrivals.stored_logits, numbers), memory.stored_logits
        ),
    )


def draw_slot(slot_weights: Tensor, random_number: Tensor) -> Tensor:
    """The slot [] that a random number [] from [0, 1) draws, each with a probability in proportion
    to its weight [capacity]; `capacity`, which is no slot, where all weights are 0."""
    cumulative = slot_weights.double().cumsum(0)
    return (cumulative <= random_number * cumulative[-1]).sum()


def fill_slots(
    memory: Memory, slots: Tensor, ended_task: EndedTask, example_indices: Tensor, task: int
) -> Memory:
    """Write the examples of an ended task with these indices [n] to the first of `slots`, as many
    as fit."""
    example_indices = example_indices[: len(slots)]
    slots = slots[: len(example_indices)]
    return memory._replace(
        rows=memory.rows.index_copy(0, slots, ended_task.rows[example_indices]),
        tasks=memory.tasks.index_fill(0, slots, task),
        class_in_task=memory.class_in_task.index_copy(
            0, slots, ended_task.class_in_task[example_indices]
        ),
        stored_logits=memory.stored_logits.index_copy(
            0, slots, ended_task.stored_logits[example_indices]
        ),
    )


class MemorySample(NamedTuple):
    """Examples read from memory: their slots, rows and tasks [M, n];  valid: [M, n] 1, or 0 for
    padding, which counts for nothing."""

    slots: Tensor
    rows: Tensor
    tasks: Tensor
    valid: Tensor


class SampledIndices(NamedTuple):
    """indices: [M, n];  valid: [M, n] False for padding."""

    indices: Tensor
    valid: Tensor


def sample_allowed(
    indices: Tensor,
    allowed: Tensor,
    sample_size: int,
    random_keys: Tensor | Absent,
    pads_in_turn: bool,
) -> SampledIndices:
    """Of each row of `indices` [M, K], such as slots, those `sample_size` with the largest random
    keys [M, K] for which `allowed` [M, K] is true.

    random_keys: random numbers from [0, 1), absent where `sample_size` is K and all that are
    allowed are taken. Where fewer than `sample_size` are allowed, all of them are taken and the
    padding repeats one of them.
    pads_in_turn: the padding repeats all of them in turn, so that a network that normalises by the
    batch has each as often, or once more; this takes a little longer.
    """
    if isinstance(random_keys, Tensor):
        random_keys, places = torch.where(allowed, random_keys, -1.0).topk(sample_size, dim=1)
        indices, allowed = indices.gather(1, places), random_keys >= 0
    if pads_in_turn:
        padding = padding_in_turn(indices, allowed)
    elif isinstance(random_keys, Tensor):
        padding = indices[:, :1]  # the largest key comes first
    else:
        padding = indices.gather(1, allowed.long().argmax(1, keepdim=True))
    return SampledIndices(torch.where(allowed, indices, padding), allowed)


def padding_in_turn(indices: Tensor, allowed: Tensor) -> Tensor:
    """Of each row of `indices` [M, n], what stands where `allowed` [M, n] is false: the first index
    that is allowed, then the second, and after the last one the first again."""
    allowed_first = indices.gather(1, (~allowed).long().argsort(dim=1, stable=True))
    padding_before = ((~allowed).cumsum(1) - 1).clamp_min(0)
    return allowed_first.gather(1, padding_before % allowed.sum(1, keepdim=True).clamp_min(1))


def sample_memory(
    memory: Memory,
    slots: Tensor,
    allowed: Tensor,
    sample_size: int,
    random_number_of_slot: Tensor,
    pads_in_turn: bool,
) -> MemorySample:
    """A sample, without replacement, of `sample_size` examples from each row of `slots` [M, K]
    where `allowed` [M, K] is true.

    random_number_of_slot: [capacity] from [0, 1), used only where sample_size < K. Where fewer
    examples than `sample_size` are allowed, all of them are read and padded, see `sample_allowed`.
    """
    random_keys = take_rows(random_number_of_slot, slots) if sample_size < slots.shape[1] else ()
    slots, allowed = sample_allowed(slots, allowed, sample_size, random_keys, pads_in_turn)
    rows, tasks = take_rows(memory.rows, slots), take_rows(memory.tasks, slots)
    return MemorySample(slots, rows.clamp_min(0), tasks.clamp_min(0), allowed.float())
