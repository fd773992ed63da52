"""Streams of numbered examples for the buffers, whose rows are 0, 1, 2, ..."""

import torch
from torch.nn.functional import cosine_similarity

from gradalign_cli.buffers.buffer import Arrivals, EndedTask, Measurements, sample_memory
from gradalign_cli.numerics.trees import tree_index

NO_LOGITS = torch.zeros(1000, 0)


def uniform_numbers(buffer, *shape, generator):
    """The random numbers [*shape, U] that a buffer needs for arrivals [*shape]."""
    return torch.rand(*shape, buffer.uniforms_per_arrival, generator=generator)


def insert_task(buffer, memory, rows, task, class_in_task, seed, batch_size=10):
    """The memory after the examples [n] of a task, in batches."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(rows), batch_size):
        batch = slice(start, start + batch_size)
        count = len(rows[batch])
        uniform = uniform_numbers(buffer, count, generator=generator)
        tasks = torch.full((count,), task)
        arrivals = Arrivals(rows[batch], tasks, class_in_task[batch], uniform, NO_LOGITS[:count])
        memory = buffer.insert(memory, arrivals)
    return memory


def memories_of_runs(buffer, rows, class_in_task, runs, batch_size=10):
    """The memories [runs, ...] of independent runs after the examples [n] of the first task."""

    def memory_of_run(uniform):
        memory = buffer.init()
        for start in range(0, len(rows), batch_size):
            batch = slice(start, start + batch_size)
            tasks = torch.zeros_like(rows[batch])
            logits = NO_LOGITS[: len(tasks)]
            arrivals = Arrivals(rows[batch], tasks, class_in_task[batch], uniform[batch], logits)
            memory = buffer.insert(memory, arrivals)
        return memory

    generator = torch.Generator().manual_seed(0)
    return torch.func.vmap(memory_of_run)(
        uniform_numbers(buffer, runs, len(rows), generator=generator)
    )


def make_ended_task(rows, class_in_task, features=None):
    """An ended task with rows [n], by default without features."""
    empty = torch.zeros(len(rows), 0)
    return EndedTask(rows, class_in_task, empty if features is None else features, empty)


def full_memory(buffer, scores, class_in_task=None):
    """A full memory of the first task with the given scores, in double precision."""
    scores = torch.tensor(scores, dtype=torch.float64)
    zeros = torch.zeros(len(scores), dtype=torch.long)
    class_in_task = zeros if class_in_task is None else torch.tensor(class_in_task)
    rows = torch.arange(len(scores))
    return buffer.init()._replace(
        rows=rows, tasks=zeros, class_in_task=class_in_task, scores=scores
    )


def memories_after_batch(buffer, memory, of_arrivals, of_stored, runs, class_in_task=None):
    """The memories [runs, ...] of independent runs after one batch of rows 100, 101, ... of the
    first task. The buffer measures `of_arrivals` [batch, ...], and `of_stored` in the first
    slots."""
    count = len(of_arrivals)
    measured = len(of_stored) if of_arrivals.ndim == 1 else of_arrivals.shape[1]
    slots, valid = torch.arange(measured), torch.ones(measured)
    measurements = Measurements(of_arrivals, of_stored, slots, valid)
    tasks = torch.zeros(count, dtype=torch.long)
    class_in_task = tasks if class_in_task is None else torch.tensor(class_in_task)
    rows = torch.arange(100, 100 + count)

    def memory_of_run(uniform):
        logits = NO_LOGITS[:count]
        arrivals = Arrivals(rows, tasks, class_in_task, uniform, logits, measurements)
        return buffer.insert(memory, arrivals)

    generator = torch.Generator().manual_seed(0)
    return torch.func.vmap(memory_of_run)(uniform_numbers(buffer, runs, count, generator=generator))


def memory_after_stream(buffer, losses_or_gradients, class_in_task, seed, batch_size=5):
    """The memory after a stream of examples whose losses [n] or gradients [n, P] do not change."""
    generator, memory = torch.Generator().manual_seed(seed), buffer.init()
    slots = torch.arange(len(memory.rows))[None]
    for rows in torch.arange(len(losses_or_gradients)).split(batch_size):
        keys = torch.rand(len(memory.rows), generator=generator)
        filled = memory.rows[None] >= 0
        sample = tree_index(
            sample_memory(
                memory, slots, filled, buffer.measured_examples, keys, pads_in_turn=False
            ),
            0,
        )
        uniform = uniform_numbers(buffer, len(rows), generator=generator)
        new, stored = losses_or_gradients[rows], losses_or_gradients[sample.rows]
        if losses_or_gradients.ndim == 1:
            measurements = Measurements(new, stored, sample.slots, sample.valid)
        else:
            cosines = cosine_similarity(new[:, None], stored, -1)
            measurements = Measurements(cosines, (), sample.slots, sample.valid)
        tasks, logits = torch.zeros_like(rows), NO_LOGITS[: len(rows)]
        arrivals = Arrivals(rows, tasks, class_in_task[rows], uniform, logits, measurements)
        memory = buffer.insert(memory, arrivals)
    return memory


def memories_by_batch_size(buffer, of_arrivals, class_in_task, of_stored):
    """The memories after a stream in batches of 1, in batches of 7 and in one batch. The buffer
    measures `of_arrivals` [n, ...], and `of_stored`, [1] or absent, in the first slot."""
    generator = torch.Generator().manual_seed(3)
    uniform = uniform_numbers(buffer, len(of_arrivals), generator=generator)
    slots, valid = torch.zeros(1).long(), torch.ones(1)
    memories = []
    for batch_size in (1, 7, len(of_arrivals)):
        memory = buffer.init()
        memory = memory._replace(scores=memory.scores.to(of_arrivals.dtype))
        for rows in torch.arange(len(of_arrivals)).split(batch_size):
            measurements = Measurements(of_arrivals[rows], of_stored, slots, valid)
            tasks, logits = torch.zeros_like(rows), NO_LOGITS[: len(rows)]
            arrivals = Arrivals(
                rows, tasks, class_in_task[rows], uniform[rows], logits, measurements
            )
            memory = buffer.insert(memory, arrivals)
        memories.append(memory)
    return memories


def assert_shares(shares, expected, runs):
    """Assert that shares [...] of independent runs are the expected probabilities [...], within
    4.5 standard deviations."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    deviation = (expected * (1 - expected) / runs).sqrt()
    assert ((shares - expected).abs() <= 4.5 * deviation + 1e-12).all()
