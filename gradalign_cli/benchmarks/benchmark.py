"""What a benchmark is: a dataset held once on the device, and tasks that are rows of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Absent = tuple[()]  # an optional tensor that is not there; `None` would not pass through vmap


class View(NamedTuple):
    """How each of a replica's T tasks sees the shared examples.

    pixels:   [T, D] the source pixel of every pixel (a permutation or rotation), or absent.
    visible:  [T, outputs] the logits a task may use, or absent when every task uses all.
    label:    [classes] the logit that stands for a class.
    position: [classes] a class's place among the classes of its task.
    """

    pixels: Tensor | Absent
    visible: Tensor | Absent
    label: Tensor
    position: Tensor


class Stream(NamedTuple):
    """One replica's tasks, all drawn from its seed before training.

    train: T tensors of rows to train on;  test: T tensors of rows to be tested on.
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    view: View


class Benchmark(NamedTuple):
    """A dataset and the rule that makes a stream of tasks from a seed.

    x: [N, pixels] uint8, every example once;  y: [N] classes;  offset: [pixels] subtracted after
    scaling to [0, 1], or absent;  shape: (channels, height, width) that the network sees;
    outputs: logits of the network;  tasks: T;  classes: of a task;  scenario: task, class or
    domain (incremental);  stream: the tasks drawn from a seed.
    """

    x: Tensor
    y: Tensor
    offset: Tensor | Absent
    shape: tuple[int, int, int]
    outputs: int
    tasks: int
    classes: int
    scenario: str
    stream: Callable[[int], Stream]


def images(benchmark: Benchmark, view: View, rows: Tensor, task: Tensor) -> Tensor:
    """Network input `[n, channels, height, width]` of rows `[n]`, as their tasks `[n]` see them."""
    x = benchmark.x[rows]
    if isinstance(view.pixels, Tensor):
        x = x.gather(1, view.pixels[task])
    x = x / 255
    if isinstance(benchmark.offset, Tensor):
        x = x - benchmark.offset
    return x.view(-1, *benchmark.shape)


def labels(benchmark: Benchmark, view: View, rows: Tensor) -> Tensor:
    """The logit `[n]` that is right for each of the rows `[n]`."""
    return view.label[benchmark.y[rows]]


def mask(logits: Tensor, view: View, task: Tensor) -> Tensor:
    """Logits `[n, outputs]` with those that a task may not use at minus infinity."""
    if isinstance(view.visible, Tensor):
        return logits.masked_fill(~view.visible[task], -torch.inf)
    return logits
