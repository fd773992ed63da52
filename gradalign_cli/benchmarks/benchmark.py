"""What a benchmark is: a dataset held once on the device, and tasks that are rows of it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.trees import take

Absent = tuple[()]  # an optional tensor that is not there; `None` would not pass through vmap


class View(NamedTuple):
    """How each of a replica's T tasks sees the shared examples.

    pixels:   [T, D] the source pixel of every pixel (a permutation or rotation), or absent.
    visible:  [T, outputs] the logits a task may use, or absent when every task uses all.
    label:    [classes] the logit that stands for a class.
    position: [classes] a class's place among the classes of its task.
    own:      [T, outputs] the logits of a task's classes, where a task is tested with them alone
              too, or absent.
    shown:    all [M, K] that references may read, as it is shown, and which of it there is, where
              that stays the same, or absent.
    """

    pixels: Tensor | Absent
    visible: Tensor | Absent
    label: Tensor
    position: Tensor
    own: Tensor | Absent = ()
    shown: "Read | Absent" = ()


class Stream(NamedTuple):
    """One replica's tasks, all drawn from its seed before training.

    train: T tensors of rows to train on, one part of the stream after the other;  test: T tensors
    of rows to be tested on;  owner: T tensors, the task of each row of train, or absent where part
    t holds task t;  ordered: whether a part's rows come as they stand, and are not shuffled;  held:
    T tensors of rows to train on that are held out, or none.
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    view: View
    owner: tuple[Tensor, ...] | Absent = ()
    ordered: bool = False
    held: tuple[Tensor, ...] = ()


class Benchmark(NamedTuple):
    """Examples and the rule that makes a stream of tasks from a seed.

    x: [N, pixels] uint8, every example once;  y: [N] classes;  offset: [pixels] subtracted after
    scaling to [0, 1], or absent;  scale: [pixels] divided by then, or absent;  shape: (channels,
    height, width) that the network sees;  outputs: logits of the network;  tasks: T;  classes: of a
    task;  scenario: task, class or domain (incremental);  stream: the tasks drawn from a seed;
    standard: [T, 2, channels] the mean and deviation that each task's channels are brought to 0 and
    1 by, or absent;  boundaries: sharp, where a task comes in its own part of the stream alone;
    blurry, where it comes in others too; none, where nothing tells one part from the next.
    """

    x: Tensor
    y: Tensor
    offset: Tensor | Absent
    scale: Tensor | Absent
    shape: tuple[int, int, int]
    outputs: int
    tasks: int
    classes: int
    scenario: str
    stream: Callable[[int], Stream]
    standard: Tensor | Absent = ()
    boundaries: Literal["sharp", "blurry", "none"] = "sharp"


class Examples(NamedTuple):
    """Examples as the network meets them.

    x: [n, channels, height, width];  label: [n] the right logit;  visible: [n, outputs] the logits
    that count, or absent;  weight: [n] 1, or 0 for what only fills a place, absent where all count;
    stored: [n, K] the logits a memory keeps with an example, K = 0 where none;  noise: [n] a key of
    the random numbers that an example meets in the network (noise.py), absent where it meets none.
    """

    x: Tensor
    label: Tensor
    visible: Tensor | Absent
    weight: Tensor | Absent
    stored: Tensor
    noise: Tensor | Absent = ()


Read = tuple[Examples, Tensor]  # [M, n] of M references, and which [M] there are any of


def part(stream: Stream, number: int) -> tuple[Tensor, Tensor]:
    """The rows [n] of a part of the stream and the task [n] of each."""
    rows = stream.train[number]
    return rows, stream.owner[number] if stream.owner else torch.full_like(rows, number)


def union(stream: Stream) -> tuple[Tensor, Tensor]:
    """All rows [N] to train on, part after part, and the task [N] of each."""
    parts = [part(stream, number) for number in range(len(stream.train))]
    return torch.cat([rows for rows, _ in parts]), torch.cat([owner for _, owner in parts])


def show(
    benchmark: Benchmark,
    view: View,
    row: Tensor,
    task: Tensor,
    weight: Tensor | Absent = (),
    noise: Tensor | Absent = (),
) -> Examples:
    """The examples of rows [..., n] as tasks [..., n] (or [..., 1]) see them."""
    x = take(benchmark.x, row) / 255
    if isinstance(view.pixels, Tensor):  # threads share a gather of floats better than one of bytes
        x = x.gather(-1, take(view.pixels, task).expand(*row.shape, -1))
    if isinstance(benchmark.offset, Tensor):
        x = x - benchmark.offset
    if isinstance(benchmark.scale, Tensor):
        x = x / benchmark.scale
    x = x.view(*row.shape, *benchmark.shape)
    if isinstance(benchmark.standard, Tensor):
        mean, deviation = take(benchmark.standard, task)[..., None, None].unbind(-4)
        x = (x - mean) / deviation
    visible = view.visible
    if isinstance(visible, Tensor):
        visible = take(visible, task).expand(*row.shape, -1)
    label = take(view.label, take(benchmark.y, row))
    stored = x.new_zeros(*row.shape, 0)
    return Examples(x, label, visible, weight, stored, noise)


def mask(logits: Tensor, visible: Tensor | Absent) -> Tensor:
    """Logits `[n, outputs]` with those that do not count at minus infinity."""
    return logits.masked_fill(~visible, -torch.inf) if isinstance(visible, Tensor) else logits
