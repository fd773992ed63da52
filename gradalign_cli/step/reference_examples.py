"""The stored examples that reference gradients are taken of.

Where the buffer leaves the examples of ended tasks as they are, their images are prepared once a
task and kept in the view (`TaskViews.cached_reference_examples`); a step then only picks from them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples, ReferenceExamples
from gradalign_cli.benchmarks.loading import ImageChange, load_examples
from gradalign_cli.buffers.buffer import Memory, sample_allowed, sample_memory
from gradalign_cli.numerics.trees import Absent, take_rows, tree_index, tree_map, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reading_sizes import (
    reference_and_replay_sizes,
    reference_cache_bytes,
    reference_slot_indices,
)

LARGEST_CACHE = 2**28  # bytes of prepared images that a replica may keep
AlignUniform = Tensor  # uniform numbers for the method, see `Draw`
# of memory, view, a draw's reference_uniform and align_uniform, and, where they are not absent, its
# noise keys and what changes the images
ReferenceReader = Callable[..., ReferenceExamples]


def make_reference_reader(parts: Parts, past_tasks: int) -> ReferenceReader:
    """How references are read while `past_tasks` tasks are over: gives the examples [M, n], and
    which [M] of the references have any."""
    benchmark, method = parts.benchmark, parts.method
    slots = reference_slot_indices(parts, past_tasks)
    size, readable_slot_mask = (
        reference_and_replay_sizes(parts, past_tasks)[0],
        make_readable_slot_mask(parts, past_tasks),
    )
    one_task, mixes = method.references == "one_task", parts.model.may_mix_examples
    place = torch.arange(slots.numel(), device=slots.device).view_as(slots)
    are_the_first_slots = torch.equal(slots, place)

    def uniform_of_slots(reference_uniform: Tensor) -> Tensor:
        """The random number [M, K] of each slot."""
        if are_the_first_slots:
            return reference_uniform[: slots.numel()].view_as(slots)
        return take_rows(reference_uniform, slots)

    def pick(examples: Examples, places: Tensor) -> Examples:
        """The examples [M, n] at these places [M, n] of the cache, without a mask."""
        picked: Examples = tree_map(
            lambda field: take_rows(field.flatten(0, 1), places), examples._replace(valid=())
        )
        return picked

    def read_reference_examples(
        memory: Memory,
        view: TaskViews,
        reference_uniform: Tensor,
        align_uniform: Tensor,
        keys: Tensor | Absent = (),
        augment: ImageChange | None = None,
    ) -> ReferenceExamples:
        if not view.cached_reference_examples:
            readable = readable_slot_mask(memory, align_uniform)
            sample = sample_memory(memory, slots, readable, size, reference_uniform, mixes)
            tasks = viewing_tasks(parts, past_tasks, sample.tasks)
            rows, valid = sample.rows, sample.valid
            examples = load_examples(benchmark, view, rows, tasks, valid, keys, augment)
            return examples, readable.any(1)
        examples, readable = view.cached_reference_examples
        if one_task:
            readable = readable_slot_mask(memory, align_uniform)
        elif not isinstance(examples.valid, Tensor):  # every slot can be read
            if size < slots.shape[1]:
                indices = uniform_of_slots(reference_uniform).topk(size).indices
                one_row = len(slots) == 1  # then indices are places
                examples = pick(examples, indices if one_row else place.gather(1, indices))
            return examples, readable[:, 0]
        elif size == slots.shape[1]:
            return examples, readable.any(1)
        uniform = uniform_of_slots(reference_uniform) if size < slots.shape[1] else ()
        places, valid = sample_allowed(place, readable, size, uniform, mixes)
        return pick(examples, places)._replace(valid=valid.float()), readable.any(1)

    return read_reference_examples


def make_readable_slot_mask(
    parts: Parts, past_tasks: int
) -> Callable[[Memory, AlignUniform], Tensor]:
    """Which [M, K] of the reference slots may be read while `past_tasks` tasks are over, as a
    function of the memory and the numbers for the alignment.

    Where the numbers are empty and the method refers to one random task, every earlier task may be
    read.
    """
    slots, references = reference_slot_indices(parts, past_tasks), parts.method.references
    reference_tasks = torch.arange(past_tasks, device=slots.device)[:, None]

    def readable_slot_mask(memory: Memory, align_uniform: Tensor) -> Tensor:
        tasks = take_rows(memory.tasks, slots)
        earlier = tasks == reference_tasks if references == "per_task" else tasks < past_tasks
        if references == "one_task" and len(align_uniform):
            earlier = tasks == (align_uniform[0] * past_tasks).long()
        return (take_rows(memory.rows, slots) >= 0) & earlier

    return readable_slot_mask


def viewing_tasks(parts: Parts, past_tasks: int, example_tasks: Tensor) -> Tensor:
    """The tasks [M, n] whose view prepares the examples of references; [M, 1] where all examples of
    a reference are of one task, so that one permutation of the pixels serves them all."""
    per_task = parts.method.references == "per_task"
    return (
        torch.arange(past_tasks, device=example_tasks.device)[:, None]
        if per_task
        else example_tasks
    )


def caches_reference_examples(parts: Parts, past_tasks: int) -> bool:
    """Whether all images that references may read are prepared once for the whole task: where the
    buffer leaves ended tasks as they are, unless the images are too large or augmented anew."""
    stays = parts.buffer.keeps_ended_tasks and parts.benchmark.boundaries == "sharp"
    needed = reference_and_replay_sizes(parts, past_tasks)[0] > 0
    same_each_step = not parts.model.needs_noise and parts.augmentation is None
    fits = reference_cache_bytes(parts, past_tasks) <= LARGEST_CACHE
    return stays and needed and same_each_step and fits


def with_cached_reference_examples(
    parts: Parts, past_tasks: int, learners: Learner, views: TaskViews
) -> TaskViews:
    """The views [R, ...] for a task, with the images that its references may read prepared. Where
    every slot of every replica can be read, `Examples.valid` is absent, so that no step masks."""
    if not caches_reference_examples(parts, past_tasks):
        return views._replace(cached_reference_examples=())
    slots = reference_slot_indices(parts, past_tasks)
    readable = make_readable_slot_mask(parts, past_tasks)
    no_numbers = learners.params[0, :0]

    def prepared(memory: Memory, view: TaskViews) -> ReferenceExamples:
        allowed = readable(memory, no_numbers)
        _, row, task, weight = sample_memory(
            memory, slots, allowed, slots.shape[1], no_numbers, parts.model.may_mix_examples
        )
        return load_examples(
            parts.benchmark, view, row, viewing_tasks(parts, past_tasks, task), weight
        ), allowed

    replicas = range(len(learners.params))
    caches = [prepared(tree_index(learners.memory, r), tree_index(views, r)) for r in replicas]
    if all(bool(readable.all()) for _, readable in caches):
        caches = [(examples._replace(valid=()), readable) for examples, readable in caches]
    return views._replace(cached_reference_examples=tree_stack(caches))
