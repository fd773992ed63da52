"""Everything random about a run, drawn outside the step from generators keyed on their purpose."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Stream, part, union

KEYS = 2**62  # that noise is drawn from


class Widths(NamedTuple):
    """How many uniform numbers a step needs: for the reference, the replays, the method, the
    buffer's look at the memory, and for each example that is offered to it;  noise: how many keys
    for the examples read from memory, None where the network has no noise."""

    reference: int
    replay: tuple[int, int]
    align: int
    look: int = 0
    insert: int = 1
    noise: int | None = None


class Draw(NamedTuple):
    """What is random or scheduled about one step.

    rows, task: [batch] the examples to train on and the task of each;  reference: [slots],
    replay: [replays, slots], align: [n], look: [slots] and insert: [batch, U] uniform numbers for
    the readings of the memory, the method and the buffer;  noise: [batch + read] keys of the
    network's noise, or [0];  lr: [] the step size.
    """

    rows: Tensor
    task: Tensor
    reference: Tensor
    replay: Tensor
    align: Tensor
    look: Tensor
    insert: Tensor
    noise: Tensor
    lr: Tensor


def generator(seed: int, purpose: str, task: int = 0) -> torch.Generator:
    """A generator of its own for each (seed, purpose, task), so that no draw moves another."""
    key = hashlib.blake2b(f"{seed}|{purpose}|{task}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)


def permutation(count: int, source: torch.Generator) -> Tensor:
    """A drawn order of `count`, on its generator's device whatever the default is."""
    return torch.randperm(count, generator=source, device=source.device)


def passes(
    stream: Stream, seed: int, task: int, count: int, mixed: bool
) -> list[tuple[Tensor, Tensor]]:
    """The order in which a part's examples come: for each pass, rows `[n]` and their tasks `[n]`.

    mixed: the examples of all tasks are shuffled together and dealt out in as many parts as
    there are tasks; part `task` is returned.
    """
    if not mixed:
        rows, owner = part(stream, task)
        if stream.ordered:
            return [(rows, owner)] * count
        source = generator(seed, "order", task)
        orders = [torch.randperm(len(rows), generator=source) for _ in range(count)]
        return [(rows[order], owner[order]) for order in orders]
    rows, owner = union(stream)
    source = generator(seed, "mixed order")
    whole = torch.cat([torch.randperm(len(rows), generator=source) for _ in range(count)])
    dealt = whole.tensor_split(len(stream.train))[task]
    return [(rows[dealt], owner[dealt])]


def fingerprint(streams: list[Stream], seeds: list[int], count: int, mixed: bool) -> str:
    """A hash of every example, order and view that replicas meet, if no pass is left out."""
    digest = hashlib.blake2b(digest_size=16)
    for stream, seed in zip(streams, seeds, strict=True):
        orders = [
            o for t in range(len(stream.train)) for o in passes(stream, seed, t, count, mixed)
        ]
        view = stream.view._replace(own=())  # tests look at it, training does not
        looked_at = [*stream.test, *stream.held, *view]
        for tensor in [t for pair in orders for t in pair] + looked_at:
            if isinstance(tensor, Tensor):
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def chunks(
    orders: list[list[tuple[Tensor, Tensor]]],
    seeds: list[int],
    lrs: list[float],
    task: int,
    batch: int,
    widths: Widths,
    first: int,
    size: int,
) -> Iterator[Draw]:
    """The draws of one task for all replicas, `[steps, replicas, ...]`, in chunks that end after
    every `size` steps and where a pass ends.

    The first `first` steps come one by one, so that the runner can look at the network between
    them. A last batch that is not full comes as a chunk of its own.
    """
    sources = [[generator(seed, purpose, task) for purpose in Widths._fields] for seed in seeds]
    lr = torch.tensor(lrs)
    done = 0
    for parts in zip(*orders, strict=True):
        rows = torch.stack([part[0] for part in parts])
        owner = torch.stack([part[1] for part in parts])
        start = 0
        while start < rows.shape[1]:
            left = rows.shape[1] - start
            steps = 1 if done < first or left < batch else min(size - done % size, left // batch)
            width = min(batch, left)
            stop = start + steps * width
            shapes = [(widths.reference,), widths.replay, (widths.align,), (widths.look,)]
            uniforms = [
                torch.stack([torch.rand(steps, *shape, generator=g[k]) for g in sources], 1)
                for k, shape in enumerate([*shapes, (width, widths.insert)])
            ]
            cut = [
                t[:, start:stop].view(len(seeds), steps, width).transpose(0, 1)
                for t in (rows, owner)
            ]
            keys = 0 if widths.noise is None else width + widths.noise
            noise = torch.stack(
                [torch.randint(KEYS, (steps, keys), generator=g[-1]) for g in sources], 1
            )
            reference, replay, align, look, insert = uniforms
            read = reference, replay, align, look
            yield Draw(cut[0], cut[1], *read, insert, noise, lr.expand(steps, -1))
            start, done = stop, done + steps
