"""Streams of numbered examples for the buffers."""

import torch
from torch.nn.functional import cosine_similarity

from gradalign_cli.buffers.buffer import Arrivals, EndedTask, Measurements, sample_memory
from gradalign_cli.numerics.trees import tree_index

NONE = torch.zeros(1000, 0)


def feed(buffer, memory, rows, task, position, seed, batch=10):
    """Offer rows [n] of a task in batches; their positions are [n]."""
    source = torch.Generator().manual_seed(seed)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        count = len(rows[part])
        uniform = torch.rand(count, buffer.uniforms_per_arrival, generator=source)
        owner = torch.full((count,), task)
        memory = buffer.insert(
            memory, Arrivals(rows[part], owner, position[part], uniform, NONE[:count])
        )
    return memory


def feed_many(buffer, rows, position, runs, batch=10, task=0):
    """The memories of many independent runs at once: each field [runs, ...]."""

    def one(uniform):
        memory = buffer.init()
        for start in range(0, len(rows), batch):
            part = slice(start, start + batch)
            owner = torch.full_like(rows[part], task)
            stored = NONE[: len(rows[part])]
            arrivals = Arrivals(rows[part], owner, position[part], uniform[part], stored)
            memory = buffer.insert(memory, arrivals)
        return memory

    return torch.func.vmap(one)(
        torch.rand(
            runs, len(rows), buffer.uniforms_per_arrival, generator=torch.Generator().manual_seed(0)
        )
    )


def ended(rows, position, features=None):
    """A selection of an ended task."""
    nothing = torch.zeros(len(rows), 0)
    return EndedTask(rows, position, nothing if features is None else features, nothing)


def full_memory(buffer, score, position=None):
    """A full memory of one task with the given scores, in double precision."""
    score = torch.tensor(score, dtype=torch.float64)
    nothing = torch.zeros(len(score), dtype=torch.long)
    position = nothing if position is None else torch.tensor(position)
    rows = torch.arange(len(score))
    return buffer.init()._replace(row=rows, task=nothing, position=position, score=score)


def offer(buffer, memory, own, stored, runs, position=None):
    """The memories of many runs [runs, ...] after one batch of rows 100, 101, ... of the first
    task, of which the buffer sees `own` [batch, ...], beside what it sees of the first slots."""
    count, looks = len(own), len(stored) if own.ndim == 1 else own.shape[1]
    seen = Measurements(own, stored, torch.arange(looks), torch.ones(looks))
    nothing = torch.zeros(count, dtype=torch.long)
    position = nothing if position is None else torch.tensor(position)

    def one(uniform):
        rows = torch.arange(100, 100 + count)
        return buffer.insert(memory, Arrivals(rows, nothing, position, uniform, NONE[:count], seen))

    source = torch.Generator().manual_seed(0)
    return torch.func.vmap(one)(
        torch.rand(runs, count, buffer.uniforms_per_arrival, generator=source)
    )


def feed_known(buffer, known, position, seed, batch=5):
    """The memory after a stream of rows whose losses [n] or gradients [n, P] are known."""
    source, memory = torch.Generator().manual_seed(seed), buffer.init()
    slots = torch.arange(len(memory.rows))[None]
    for rows in torch.arange(len(known)).split(batch):
        keys = torch.rand(len(memory.rows), generator=source)
        reading = sample_memory(
            memory, slots, memory.rows[None] >= 0, buffer.measured_examples, keys
        )
        slot, row, _, weight = tree_index(reading, 0)
        uniform = torch.rand(len(rows), buffer.uniforms_per_arrival, generator=source)
        if known.ndim == 1:
            seen = Measurements(known[rows], known[row], slot, weight)
        else:
            seen = Measurements(
                cosine_similarity(known[rows, None], known[row], -1), (), slot, weight
            )
        nothing = torch.zeros_like(rows)
        arrivals = Arrivals(rows, nothing, position[rows], uniform, NONE[: len(rows)], seen)
        memory = buffer.insert(memory, arrivals)
    return memory


def agrees(found, expected, runs):
    """Assert that shares of many runs are those that are expected, within 4.5 deviations."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    deviation = (expected * (1 - expected) / runs).sqrt()
    assert ((found - expected).abs() <= 4.5 * deviation + 1e-12).all()


def in_batches(buffer, known, position, beside):
    """The memories after a stream that came in batches of 1, of 7 and at once, of which the buffer
    saw `known` [n, ...], and `beside` [1, ...] of what is stored."""
    uniform = torch.rand(
        len(known), buffer.uniforms_per_arrival, generator=torch.Generator().manual_seed(3)
    )
    found = []
    for batch in (1, 7, len(known)):
        memory = buffer.init()
        memory = memory._replace(scores=memory.scores.to(known.dtype))
        for rows in torch.arange(len(known)).split(batch):
            seen = Measurements(known[rows], beside, torch.zeros(1).long(), torch.ones(1))
            nothing = torch.zeros_like(rows)
            given = rows, nothing, position[rows], uniform[rows], NONE[: len(rows)]
            memory = buffer.insert(memory, Arrivals(*given, seen))
        found.append(memory)
    return found
