"""Replay: batches drawn from the whole memory, for objectives that train on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import Memory, MemorySample, sample_memory
from gradalign_cli.numerics.trees import take_rows, tree_index
from gradalign_cli.step.draws import Draw, augmenter, noise_keys
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import (
    reference_and_replay_sizes,
    reference_slot_indices,
    usable_slot_indices,
)


def make_replay(
    parts: Parts, past_tasks: int
) -> Callable[[Memory, Draw, TaskViews], tuple[Examples, ...]]:
    """How a step reads the independent memory batches that its method asks for."""
    slots = usable_slot_indices(parts, past_tasks)
    reference_size, size = reference_and_replay_sizes(parts, past_tasks)
    # by the references
    read_before = reference_size * len(reference_slot_indices(parts, past_tasks))
    mixes_examples = parts.model.may_mix_examples

    def rows_and_tasks(sample: MemorySample, filled: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Those of a sample. Of an empty memory it is all padding, and repeats the batch in turn:
        networks that normalise by the batch normalise both together as the batch alone."""
        if not mixes_examples:
            return sample.rows, sample.tasks
        repeats = -(-size // len(draw.rows))
        stream_rows, stream_tasks = (
            of_batch.repeat(repeats)[:size] for of_batch in (draw.rows, draw.tasks)
        )
        any_filled = filled.any()
        rows = torch.where(any_filled, sample.rows, stream_rows)
        return rows, torch.where(any_filled, sample.tasks, stream_tasks)

    def batch(memory: Memory, draw: Draw, view: TaskViews, number: int) -> Examples:
        filled = take_rows(memory.rows, slots) >= 0
        sample = tree_index(
            sample_memory(memory, slots, filled, size, draw.replay_uniform[number], mixes_examples),
            0,
        )
        rows, tasks = rows_and_tasks(sample, filled, draw)
        first = len(draw.rows) + read_before + number * size
        keys = noise_keys(draw, parts.model, first, size)
        augment = augmenter(draw, parts.augmentation, first, size)
        examples = load_examples(parts.benchmark, view, rows, tasks, sample.valid, keys, augment)
        return examples._replace(stored_logits=take_rows(memory.stored_logits, sample.slots))

    def replay(memory: Memory, draw: Draw, view: TaskViews) -> tuple[Examples, ...]:
        return tuple(batch(memory, draw, view, k) for k in range(parts.method.memory_batches))

    return replay
