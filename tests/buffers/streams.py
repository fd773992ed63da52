"""Streams of numbered examples for the buffers."""

import torch

from gradalign_cli.buffers.buffer import Arrivals, Selection

NONE = torch.zeros(1000, 0)


def feed(buffer, memory, rows, task, position, seed, batch=10):
    """Offer rows [n] of a task in batches; their positions are [n]."""
    source = torch.Generator().manual_seed(seed)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        count = len(rows[part])
        uniform = torch.rand(count, generator=source)
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
        torch.rand(runs, len(rows), generator=torch.Generator().manual_seed(0))
    )


def ended(rows, position, features=None):
    """A selection of an ended task."""
    nothing = torch.zeros(len(rows), 0)
    return Selection(rows, position, nothing if features is None else features, nothing)
