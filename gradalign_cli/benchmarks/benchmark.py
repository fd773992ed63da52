"""What a benchmark is: a dataset, stored once, and tasks that are rows of it."""

import hashlib
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import ReferenceExamples
from gradalign_cli.numerics.devices import to_device
from gradalign_cli.numerics.trees import Absent


class TaskViews(NamedTuple):
    """How each of a replica's T tasks sees the shared examples.

    pixel_source:       [T, pixels] the pixel of the stored image that each pixel of the task's
                        image is copied from (a permutation or a rotation), absent where tasks see
                        images as they are stored.
    visible_logit_mask: [T, outputs] whether the softmax of a task includes a logit, absent where it
                        includes all.
    logit_of_class:     [classes] the logit that stands for a class.
    class_in_task:      [classes] the number of a class among the classes of its task.
    task_logit_mask:    [T, outputs] whether a logit is of the task's own classes, where tasks are
                        also tested with these logits alone, and absent otherwise.
    cached_reference_examples:
                        the examples [M, K] of all slots that references may read, prepared once a
                        task where the memory of ended tasks does not change, and which [M, K] of
                        them may be read; `Examples.valid` is absent where all may. Absent where
                        every step reads the memory anew.
    """

    pixel_source: Tensor | Absent
    visible_logit_mask: Tensor | Absent
    logit_of_class: Tensor
    class_in_task: Tensor
    task_logit_mask: Tensor | Absent = ()
    cached_reference_examples: "ReferenceExamples | Absent" = ()


class Stream(NamedTuple):
    """One replica's tasks, drawn from its seed before training.

    train_rows:    the training rows of each of T parts, which come one after the other.
    test_rows:     the test rows of each of T tasks.
    view:          how tasks see the examples.
    train_tasks:   the task of each row in train_rows, absent where part t is task t alone.
    fixed_order:   whether the rows of a part come as they are listed, and are not shuffled.
    held_out_rows: the training rows of each task that are not trained on, empty where there are
                   none.
    """

    train_rows: tuple[Tensor, ...]
    test_rows: tuple[Tensor, ...]
    view: TaskViews
    train_tasks: tuple[Tensor, ...] | Absent = ()
    fixed_order: bool = False
    held_out_rows: tuple[Tensor, ...] = ()


class Benchmark(NamedTuple):
    """A dataset and the rule that makes a stream of tasks from a seed.

    images:           [N, pixels] uint8, every example once (rotated.py appends a blank pixel).
                      They are on the device, or on the host where they are too many.
    labels:           [N] classes.
    pixel_mean:       [pixels] subtracted from pixels scaled to [0, 1], or absent.
    pixel_std:        [pixels] that they are then divided by, or absent.
    image_shape:      (channels, height, width) that the network sees.
    outputs:          number of logits.
    tasks:            T.
    classes_per_task: number of classes of a task.
    scenario:         task, class or domain (incremental).
    make_stream:      (seed) -> the tasks drawn from a seed.
    task_mean_std:    [T, 2, channels] the mean and standard deviation by which the channels of each
                      task are standardised, or absent.
    boundaries:       sharp, where each part of the stream is one task; blurry, where a part also
                      has examples of other tasks; none, where the learner is not told where a part
                      ends.
    images_on_host:   whether the images stay on the host, so that steps read a window of them
                      (training/step_images.py).
    place_of_row:     [N] where in `images` the image of a row is, absent where it is at the row.
    """

    images: Tensor
    labels: Tensor
    pixel_mean: Tensor | Absent
    pixel_std: Tensor | Absent
    image_shape: tuple[int, int, int]
    outputs: int
    tasks: int
    classes_per_task: int
    scenario: str
    make_stream: Callable[[int], Stream]
    task_mean_std: Tensor | Absent = ()
    boundaries: Literal["sharp", "blurry", "none"] = "sharp"
    images_on_host: bool = False
    place_of_row: Tensor | Absent = ()


def rows_and_tasks_of_part(stream: Stream, part_index: int) -> tuple[Tensor, Tensor]:
    """The training rows [n] of part number `part_index` and the task [n] of each."""
    rows = stream.train_rows[part_index]
    return rows, stream.train_tasks[part_index] if stream.train_tasks else torch.full_like(
        rows, part_index
    )


def all_training_rows_and_tasks(stream: Stream) -> tuple[Tensor, Tensor]:
    """All training rows [N], part after part, and the task [N] of each."""
    parts = [rows_and_tasks_of_part(stream, part) for part in range(len(stream.train_rows))]
    return torch.cat([rows for rows, _ in parts]), torch.cat([tasks for _, tasks in parts])


def task_classes(benchmark: Benchmark, stream: Stream) -> list[list[int]]:
    """The classes that each task is tested on."""
    labels = benchmark.labels.cpu()
    return [labels[rows].unique().tolist() for rows in stream.test_rows]


def data_fingerprint(benchmark: Benchmark) -> str:
    """A hash of all images and labels, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (benchmark.images, benchmark.labels):
        digest.update(tensor.cpu().contiguous().reshape(-1).numpy().data)
    return digest.hexdigest()


def benchmark_on_device(
    benchmark: Benchmark, device: torch.device, image_budget_bytes: float = math.inf
) -> Benchmark:
    """The benchmark with its examples, and what its pixels are standardised by, on a device. Its
    images stay on the host where they have more than `image_budget_bytes`."""
    too_many = benchmark.images.numel() > image_budget_bytes
    return benchmark._replace(
        images=benchmark.images if too_many else to_device(benchmark.images, device),
        images_on_host=too_many,
        labels=to_device(benchmark.labels, device),
        pixel_mean=to_device(benchmark.pixel_mean, device),
        pixel_std=to_device(benchmark.pixel_std, device),
        task_mean_std=to_device(benchmark.task_mean_std, device),
    )
