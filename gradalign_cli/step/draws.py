"""Everything random about a run, drawn outside the step from generators keyed on their purpose."""

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Stream, stream_part, whole_stream
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.step.draw_sizes import DrawSizes

KEYS = 2**62  # that the keys of noise are drawn from
# each has a generator of its own; renaming one would change every run
PURPOSES = ("reference", "replay", "align", "look", "insert", "noise")


class Draw(NamedTuple):
    """What is random or scheduled about one step.

    rows, task: [batch] the examples to train on and the task of each;  reference: [slots],
    replay: [replays, slots], align: [n], look: [slots] and insert: [batch, U] uniform numbers for
    the readings of the memory, the method and the buffer;  noise: [batch + read] keys of the
    network's noise, or [0];  lr: [] the step size.
    """

    rows: Tensor
    tasks: Tensor
    reference_uniform: Tensor
    replay_uniform: Tensor
    align_uniform: Tensor
    measure_uniform: Tensor
    insert_uniform: Tensor
    noise_keys: Tensor
    lr: Tensor


def noise_keys(draw: Draw, model: Model, first: int, *shape: int) -> Tensor | Absent:
    """The keys [*shape] of a step's noise from number `first` on, one for each example that the
    network sees; absent where the network has no noise."""
    if not model.needs_noise:
        return ()
    return draw.noise_keys[first : first + math.prod(shape)].view(shape)


def pass_orders(
    stream: Stream, seed: int, task: int, count: int, mixed: bool
) -> list[tuple[Tensor, Tensor]]:
    """The order in which a part's examples come: for each pass, rows `[n]` and their tasks `[n]`.

    mixed: the examples of all tasks are shuffled together and dealt out in as many parts as
    there are tasks; part `task` is returned.
    """
    if not mixed:
        rows, owner = stream_part(stream, task)
        if stream.fixed_order:
            return [(rows, owner)] * count
        source = generator(seed, "order", task)
        orders = [torch.randperm(len(rows), generator=source) for _ in range(count)]
        return [(rows[order], owner[order]) for order in orders]
    rows, owner = whole_stream(stream)
    source = generator(seed, "mixed order")
    whole = torch.cat([torch.randperm(len(rows), generator=source) for _ in range(count)])
    dealt = whole.tensor_split(len(stream.train_rows))[task]
    return [(rows[dealt], owner[dealt])]


def fingerprint(streams: list[Stream], seeds: list[int], count: int, mixed: bool) -> str:
    """A hash of every example, order and view that replicas meet, if no pass is left out."""
    digest = hashlib.blake2b(digest_size=16)
    for stream, seed in zip(streams, seeds, strict=True):
        orders = [
            o
            for t in range(len(stream.train_rows))
            for o in pass_orders(stream, seed, t, count, mixed)
        ]
        view = stream.view._replace(own_logits=())  # tests look at it, training does not
        looked_at = [*stream.test_rows, *stream.held_out_rows, *view]
        for tensor in [t for pair in orders for t in pair] + looked_at:
            if isinstance(tensor, Tensor):
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def draw_chunks(
    orders: list[list[tuple[Tensor, Tensor]]],
    seeds: list[int],
    lrs: list[float],
    task: int,
    batch_size: int,
    sizes: DrawSizes,
    single_steps: int,
    chunk_size: int,
) -> Iterator[Draw]:
    """The draws [steps, replicas, ...] of one task for all replicas, in chunks that end after every
    `chunk_size` steps and where a pass ends.

    orders: of each replica and pass, see `pass_orders`.  single_steps: so many steps at first come
    one by one, so that the network can be tested between them. A last batch that is not full comes
    as a chunk of its own.
    """
    generators = [[generator(seed, purpose, task) for purpose in PURPOSES] for seed in seeds]
    lr = torch.tensor(lrs)
    done = 0
    for one_pass in zip(*orders, strict=True):
        rows = torch.stack([order[0] for order in one_pass])
        tasks = torch.stack([order[1] for order in one_pass])
        start = 0
        while start < rows.shape[1]:
            left = rows.shape[1] - start
            width = min(batch_size, left)
            steps = min(chunk_size - done % chunk_size, left // width)
            steps = 1 if done < single_steps else steps
            stop = start + steps * width
            batches = [
                t[:, start:stop].view(len(seeds), steps, width).transpose(0, 1)
                for t in (rows, tasks)
            ]
            numbers = random_numbers(generators, sizes, steps, width)
            yield Draw._make([*batches, *numbers, lr.expand(steps, -1)])
            start, done = stop, done + steps


def random_numbers(
    generators: list[list[torch.Generator]], sizes: DrawSizes, steps: int, width: int
) -> list[Tensor]:
    """Uniform numbers and keys of noise [steps, replicas, ...], in the order of `PURPOSES`, for
    steps with batches of `width` examples."""
    shapes = [
        (sizes.reference,),
        sizes.replay_shape,
        (sizes.align,),
        (sizes.measure,),
        (width, sizes.insert),
    ]
    uniform = [
        torch.stack([torch.rand(steps, *shape, generator=own[k]) for own in generators], 1)
        for k, shape in enumerate(shapes)
    ]
    count = 0 if sizes.noise_keys is None else width + sizes.noise_keys
    keys = [torch.randint(KEYS, (steps, count), generator=own[-1]) for own in generators]
    return [*uniform, torch.stack(keys, 1)]
