"""Everything random about a run, drawn outside the step from generators keyed on their purpose."""

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.augmentations.augmentation import Augmentation
from gradalign_cli.benchmarks.benchmark import (
    Stream,
    all_training_rows_and_tasks,
    rows_and_tasks_of_part,
)
from gradalign_cli.benchmarks.loading import ImageChange
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.step.draw_sizes import DrawSizes

KEYS = 2**62  # keys of noise are whole numbers below it
# each has a generator of its own; renaming one would change every run
PURPOSES = ("reference", "replay", "align", "look", "insert", "noise", "augment")


class Draw(NamedTuple):
    """What is random or scheduled about one step.

    rows, tasks: [batch] the examples to train on and the task of each.
    Uniform numbers from [0, 1): reference_uniform [slots] and replay_uniform [memory batches,
    slots] choose what is read from the memory, align_uniform [n] is for the method's alignment,
    buffer_measure_uniform [slots] chooses the stored examples that the buffer measures,
    insert_uniform [batch, U] is for the buffer's choice among the arrivals.
    noise_keys: [examples the network sees] keys of their dropout, or [0].
    augment_uniform: [examples the network sees, U] uniform numbers for their images, or [0, 0].
    lr: [] the step size.
    """

    rows: Tensor
    tasks: Tensor
    reference_uniform: Tensor
    replay_uniform: Tensor
    align_uniform: Tensor
    buffer_measure_uniform: Tensor
    insert_uniform: Tensor
    noise_keys: Tensor
    augment_uniform: Tensor
    lr: Tensor


def ones_like_batch(draw: Draw) -> Tensor:
    """Ones [batch], as every example of the stream exists: what `Examples.valid` then is."""
    return torch.ones_like(draw.rows, dtype=draw.lr.dtype)


def noise_keys(draw: Draw, model: Model, first_example: int, *shape: int) -> Tensor | Absent:
    """The keys [*shape] of a step's noise from number `first_example` on, one for each example that
    the network sees; absent where the network has no noise."""
    if not model.needs_noise:
        return ()
    return draw.noise_keys[first_example : first_example + math.prod(shape)].view(shape)


def augmenter(
    draw: Draw, augmentation: Augmentation | None, first_example: int, example_count: int
) -> ImageChange | None:
    """What changes the images [example_count, ...] of a step's examples from number `first_example`
    on; None where nothing is augmented."""
    if augmentation is None:
        return None
    uniform = draw.augment_uniform[first_example : first_example + example_count]
    return lambda images: augmentation.apply(images, uniform)


class PassOrder(NamedTuple):
    """rows, tasks: [n] of the examples of a pass, in the order in which they come."""

    rows: Tensor
    tasks: Tensor


def pass_orders(
    stream: Stream, seed: int, task: int, passes: int, shuffles_tasks_together: bool
) -> list[PassOrder]:
    """The order in which the examples of a part of the stream come: one for each pass over it.

    shuffles_tasks_together: the examples of all tasks are shuffled together and dealt out in as
    many parts as there are tasks; part `task` is returned, as one pass.
    """
    if not shuffles_tasks_together:
        rows, tasks = rows_and_tasks_of_part(stream, task)
        if stream.fixed_order:
            return [PassOrder(rows, tasks)] * passes
        source = generator(seed, "order", task)
        orders = [torch.randperm(len(rows), generator=source) for _ in range(passes)]
        return [PassOrder(rows[order], tasks[order]) for order in orders]
    rows, tasks = all_training_rows_and_tasks(stream)
    source = generator(seed, "mixed order")
    orders = [torch.randperm(len(rows), generator=source) for _ in range(passes)]
    order = torch.cat(orders).tensor_split(len(stream.train_rows))[task]
    return [PassOrder(rows[order], tasks[order])]


def data_order_fingerprint(
    replica_streams: list[Stream], seeds: list[int], passes: int, shuffles_tasks_together: bool
) -> str:
    """A hash of all that replicas train and are tested on, in its order, if no pass is left out."""
    digest = hashlib.blake2b(digest_size=16)
    for stream, seed in zip(replica_streams, seeds, strict=True):
        orders = [
            o
            for t in range(len(stream.train_rows))
            for o in pass_orders(stream, seed, t, passes, shuffles_tasks_together)
        ]
        view = stream.view._replace(task_logit_mask=())  # a second reading of the same tests
        fixed = [*stream.test_rows, *stream.held_out_rows, *view]
        for tensor in [t for order in orders for t in order] + fixed:
            if isinstance(tensor, Tensor):
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def draw_chunks(
    orders: list[list[PassOrder]],
    seeds: list[int],
    lrs: list[float],
    task: int,
    batch_size: int,
    sizes: DrawSizes,
    leading_single_steps: int,
    steps_per_chunk: int,
) -> Iterator[Draw]:
    """The draws [steps, replicas, ...] of one task for all replicas, in chunks.

    A chunk ends after every `steps_per_chunk` steps and where a pass ends. The first
    `leading_single_steps` steps are chunks of their own, so that the network can be tested between
    them; so is a last batch that is not full.  orders: of each replica, see `pass_orders`.
    """
    generators = [[generator(seed, purpose, task) for purpose in PURPOSES] for seed in seeds]
    lr = torch.tensor(lrs)
    done = 0
    for one_pass in zip(*orders, strict=True):
        rows = torch.stack([order[0] for order in one_pass])
        tasks = torch.stack([order[1] for order in one_pass])
        start = 0
        while start < rows.shape[1]:
            remaining = rows.shape[1] - start
            width = min(batch_size, remaining)
            steps = min(steps_per_chunk - done % steps_per_chunk, remaining // width)
            steps = 1 if done < leading_single_steps else steps
            stop = start + steps * width
            batches = [
                t[:, start:stop].view(len(seeds), steps, width).transpose(0, 1)
                for t in (rows, tasks)
            ]
            numbers = draw_random_numbers(generators, sizes, steps, width)
            yield Draw._make([*batches, *numbers, lr.expand(steps, -1)])
            start, done = stop, done + steps


def draw_random_numbers(
    replica_generators: list[list[torch.Generator]], sizes: DrawSizes, steps: int, batch_size: int
) -> list[Tensor]:
    """Uniform numbers and keys of noise [steps, replicas, ...], in the order of `PURPOSES`, for
    steps with batches of `batch_size` examples.  replica_generators: of each replica, one for each
    purpose."""
    seen = batch_size + sizes.memory_examples if sizes.uniforms_per_image else 0
    shapes = [
        (sizes.reference_uniforms,),
        sizes.replay_uniform_shape,
        (sizes.align_uniforms,),
        (sizes.buffer_measure_uniforms,),
        (batch_size, sizes.uniforms_per_arrival),
        (seen, sizes.uniforms_per_image),
    ]
    noise = PURPOSES.index("noise")
    *uniform, augment_uniform = [
        torch.stack(
            [torch.rand(steps, *shape, generator=purposes[k]) for purposes in replica_generators], 1
        )
        for k, shape in zip([*range(noise), noise + 1], shapes, strict=True)
    ]
    count = 0 if sizes.memory_noise_key_count is None else batch_size + sizes.memory_noise_key_count
    keys = [
        torch.randint(KEYS, (steps, count), generator=purposes[noise])
        for purposes in replica_generators
    ]
    return [*uniform, torch.stack(keys, 1), augment_uniform]
