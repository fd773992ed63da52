"""The stored examples that reference gradients are taken of.

Where the buffer leaves the examples of ended tasks as they are, their images are prepared once a
task and kept in the view (`View.reference_cache`); a step then only picks from them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.benchmarks.examples import ReferenceExamples
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import Memory, sample_allowed, sample_memory
from gradalign_cli.numerics.trees import Absent, take_rows, tree_index, tree_map, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reading_sizes import (
    reading_sizes,
    reference_image_bytes,
    reference_slots,
)

LARGEST_CACHE = 2**28  # bytes of prepared images that a replica may keep


def make_reference_reader(parts: Parts, past_tasks: int) -> Callable[..., ReferenceExamples]:
    """How references are read while `past_tasks` tasks are over.

    Returns a function of (memory, view, reference, align, noise), the last three as in a `Draw`,
    that gives the examples [M, n] and which [M] references have any.
    """
    benchmark, method, slots = parts.benchmark, parts.method, reference_slots(parts, past_tasks)
    size, readable = reading_sizes(parts, past_tasks)[0], make_readable(parts, past_tasks)
    one_task = method.references == "one_task"
    place = torch.arange(slots.numel(), device=slots.device).view_as(slots)

    def read_reference_examples(
        memory: Memory, view: View, reference: Tensor, align: Tensor, noise: Tensor | Absent
    ) -> ReferenceExamples:
        if not view.reference_cache:
            allowed = readable(memory, align)
            _, row, task, weight = sample_memory(memory, slots, allowed, size, reference)
            task = view_tasks(parts, past_tasks, task)
            return load_examples(benchmark, view, row, task, weight, noise), allowed.any(1)
        examples, allowed = view.reference_cache
        if one_task:
            allowed = readable(memory, align)
        elif size == slots.shape[1]:
            return examples, allowed.any(1)
        key = take_rows(reference, slots) if size < slots.shape[1] else ()
        chosen, valid = sample_allowed(place, allowed, size, key)
        picked = tree_map(lambda field: take_rows(field.flatten(0, 1), chosen), examples)
        return picked._replace(valid=valid.float()), allowed.any(1)

    return read_reference_examples


def make_readable(parts: Parts, past_tasks: int) -> Callable[[Memory, Tensor], Tensor]:
    """Which of the reference slots [M, K] may be read while `past_tasks` tasks are over.

    Returns a function of (memory, align) that gives a mask [M, K]. align: as in a `Draw`; where it
    is empty and the method refers to one random task, every earlier task may be read.
    """
    slots, references = reference_slots(parts, past_tasks), parts.method.references
    reference_task = torch.arange(past_tasks, device=slots.device)[:, None]

    def readable(memory: Memory, align: Tensor) -> Tensor:
        task = take_rows(memory.tasks, slots)
        earlier = task == reference_task if references == "per_task" else task < past_tasks
        if references == "one_task" and len(align):
            earlier = task == (align[0] * past_tasks).long()
        return (take_rows(memory.rows, slots) >= 0) & earlier

    return readable


def view_tasks(parts: Parts, past_tasks: int, task: Tensor) -> Tensor:
    """The tasks [M, n] whose view prepares the examples of references; [M, 1] where all examples of
    a reference are of one task, so that one permutation of the pixels serves them all."""
    per_task = parts.method.references == "per_task"
    return torch.arange(past_tasks, device=task.device)[:, None] if per_task else task


def keeps_reference_cache(parts: Parts, past_tasks: int) -> bool:
    """Whether all images that references may read are prepared once for the whole task: where the
    buffer leaves ended tasks as they are, and unless the images are too large."""
    stays = parts.buffer.keeps_ended_tasks and parts.benchmark.boundaries == "sharp"
    needed = reading_sizes(parts, past_tasks)[0] > 0 and not parts.model.needs_noise
    return stays and needed and reference_image_bytes(parts, past_tasks) <= LARGEST_CACHE


def with_reference_cache(parts: Parts, past_tasks: int, learners: Learner, views: View) -> View:
    """The views [R, ...] for a task, with the images that its references may read prepared."""
    if not keeps_reference_cache(parts, past_tasks):
        return views._replace(reference_cache=())
    slots, readable = reference_slots(parts, past_tasks), make_readable(parts, past_tasks)
    no_numbers = learners.params[0, :0]

    def prepared(memory: Memory, view: View) -> ReferenceExamples:
        allowed = readable(memory, no_numbers)
        _, row, task, weight = sample_memory(memory, slots, allowed, slots.shape[1], no_numbers)
        return load_examples(
            parts.benchmark, view, row, view_tasks(parts, past_tasks, task), weight
        ), allowed

    replicas = range(len(learners.params))
    caches = [prepared(tree_index(learners.memory, r), tree_index(views, r)) for r in replicas]
    return views._replace(reference_cache=tree_stack(caches))
