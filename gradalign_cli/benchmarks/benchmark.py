"""What a benchmark is: a dataset held once on the device, and tasks that are rows of it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import ReferenceExamples
from gradalign_cli.numerics.trees import Absent


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

    pixel_source: Tensor | Absent
    visible_logits: Tensor | Absent
    logit_of_class: Tensor
    class_position: Tensor
    own_logits: Tensor | Absent = ()
    reference_cache: "ReferenceExamples | Absent" = ()


class Stream(NamedTuple):
    """One replica's tasks, all drawn from its seed before training.

    train: T tensors of rows to train on, one part of the stream after the other;  test: T tensors
    of rows to be tested on;  owner: T tensors, the task of each row of train, or absent where part
    t holds task t;  ordered: whether a part's rows come as they stand, and are not shuffled;  held:
    T tensors of rows to train on that are held out, or none.
    """

    train_rows: tuple[Tensor, ...]
    test_rows: tuple[Tensor, ...]
    view: View
    train_tasks: tuple[Tensor, ...] | Absent = ()
    fixed_order: bool = False
    held_out_rows: tuple[Tensor, ...] = ()


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

    images: Tensor
    labels: Tensor
    pixel_offset: Tensor | Absent
    pixel_scale: Tensor | Absent
    image_shape: tuple[int, int, int]
    outputs: int
    tasks: int
    classes_per_task: int
    scenario: str
    make_stream: Callable[[int], Stream]
    task_mean_std: Tensor | Absent = ()
    boundaries: Literal["sharp", "blurry", "none"] = "sharp"


def stream_part(stream: Stream, number: int) -> tuple[Tensor, Tensor]:
    """The rows [n] of a part of the stream and the task [n] of each."""
    rows = stream.train_rows[number]
    return rows, stream.train_tasks[number] if stream.train_tasks else torch.full_like(rows, number)


def whole_stream(stream: Stream) -> tuple[Tensor, Tensor]:
    """All rows [N] to train on, part after part, and the task [N] of each."""
    parts = [stream_part(stream, number) for number in range(len(stream.train_rows))]
    return torch.cat([rows for rows, _ in parts]), torch.cat([owner for _, owner in parts])
