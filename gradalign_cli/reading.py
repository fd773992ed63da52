"""What a step reads of the memory: how much of which slots, shown once a task where it stays."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Absent, Read, View, show
from gradalign_cli.buffers.buffer import Memory, pick, read
from gradalign_cli.learner import Learner, Parts
from gradalign_cli.trees import index, stack, take, tree_map

SHOWN = 2**28  # bytes of images that a replica may keep for its references


def met(parts: Parts, past: int) -> int:
    """Of how many tasks the memory may hold examples while `past` tasks are over."""
    sharp = parts.benchmark.boundaries == "sharp"
    return past + 1 if sharp else parts.benchmark.tasks


def reading_sizes(parts: Parts, past: int) -> tuple[int, int]:
    """How many examples a reference gradient and a replay read while `past` tasks are over."""
    slots = parts.buffer.slots
    per_reference = {
        "nothing": 0,
        "pooled": len(slots[:past].unique()),
        "one_task": slots.shape[1],
        "per_task": slots.shape[1],
    }[parts.method.references]
    replay = len(slots[: met(parts, past)].unique()) if parts.method.replays else 0
    limit = parts.memory_batch or max(per_reference, replay)
    return min(per_reference, limit) if past else 0, min(replay, limit)


def look_size(parts: Parts, past: int) -> int:
    """How many stored examples the buffer looks at in a step while `past` tasks are over."""
    return min(parts.buffer.looks, len(parts.buffer.slots[: met(parts, past)].unique()))


def held_slots(parts: Parts, past: int) -> Tensor:
    """The slots [M, K] that each reference reads from while `past` tasks are over."""
    slots = parts.buffer.slots[:past]
    return slots if parts.method.references == "per_task" else slots.unique()[None]


def make_reading(parts: Parts, past: int) -> Callable[..., Read]:
    """What references read while `past` tasks are over.

    (memory, view, reference, align, noise) -> the examples [M, n] and which [M] there are any of;
    reference, align, noise: as in a draw.
    """
    benchmark, method, held = parts.benchmark, parts.method, held_slots(parts, past)
    size, allowed_in = reading_sizes(parts, past)[0], make_allowed(parts, past)
    one_task = method.references == "one_task"
    place = torch.arange(held.numel(), device=held.device).view_as(held)

    def reading(
        memory: Memory, view: View, reference: Tensor, align: Tensor, noise: Tensor | Absent
    ) -> Read:
        if not view.shown:
            allowed = allowed_in(memory, align)
            _, row, task, weight = read(memory, held, allowed, size, reference)
            task = shown_as(parts, past, task)
            return show(benchmark, view, row, task, weight, noise), allowed.any(1)
        examples, allowed = view.shown
        if one_task:
            allowed = allowed_in(memory, align)
        elif size == held.shape[1]:
            return examples, allowed.any(1)
        key = take(reference, held) if size < held.shape[1] else ()
        chosen, there = pick(place, allowed, size, key)
        found = tree_map(lambda field: take(field.flatten(0, 1), chosen), examples)
        return found._replace(weight=there.float()), allowed.any(1)

    return reading


def make_allowed(parts: Parts, past: int) -> Callable[[Memory, Tensor], Tensor]:
    """Which of the held slots [M, K] references may read while `past` tasks are over: (memory,
    align) -> [M, K]; align: as in a draw, empty for all that any draw allows."""
    held, references = held_slots(parts, past), parts.method.references
    owner = torch.arange(past, device=held.device)[:, None]

    def allowed(memory: Memory, align: Tensor) -> Tensor:
        task = take(memory.task, held)
        mine = task == owner if references == "per_task" else task < past
        if references == "one_task" and len(align):
            mine = task == (align[0] * past).long()
        return (take(memory.row, held) >= 0) & mine

    return allowed


def shown_as(parts: Parts, past: int, task: Tensor) -> Tensor:
    """The tasks [M, n], or [M, 1] where one map of pixels serves all that a reference reads."""
    alone = parts.method.references == "per_task"
    return torch.arange(past, device=task.device)[:, None] if alone else task


def shown_bytes(parts: Parts, past: int) -> int:
    """Bytes of all the images that references may read while `past` tasks are over."""
    return 4 * held_slots(parts, past).numel() * math.prod(parts.benchmark.shape)


def shows_once(parts: Parts, past: int) -> bool:
    """Whether what references may read is shown once for all steps while `past` tasks are over:
    what ended tasks have in a memory in which it stays, unless it is too much to keep."""
    stays = parts.buffer.settled and parts.benchmark.boundaries == "sharp"
    read_at_all = reading_sizes(parts, past)[0] > 0 and not parts.model.noisy
    return stays and read_at_all and shown_bytes(parts, past) <= SHOWN


def with_shown(parts: Parts, past: int, learners: Learner, views: View) -> View:
    """The views [R, ...] with all that references may read while `past` tasks are over, where it is
    shown once."""
    if not shows_once(parts, past):
        return views._replace(shown=())
    held, allowed_in = held_slots(parts, past), make_allowed(parts, past)
    nothing = learners.params[0, :0]

    def shown(memory: Memory, view: View) -> Read:
        allowed = allowed_in(memory, nothing)
        _, row, task, weight = read(memory, held, allowed, held.shape[1], nothing)
        return show(parts.benchmark, view, row, shown_as(parts, past, task), weight), allowed

    both = [(index(learners.memory, r), index(views, r)) for r in range(len(learners.params))]
    return views._replace(shown=stack([shown(*own) for own in both]))
