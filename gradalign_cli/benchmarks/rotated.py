"""Rotated benchmarks: every task sees all images turned by its own angle."""

import math
from typing import Literal

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.benchmarks.options import dataset_tensors, draw_subset, task_range
from gradalign_cli.data import Dataset
from gradalign_cli.errors import require, require_choice
from gradalign_cli.numerics.generators import generator

AngleRule = Literal["intervals", "uniform", "steps"]


def rotation_pixel_source(degrees: float, channels: int, height: int, width: int) -> Tensor:
    """The source pixel [channels * height * width] of every pixel of an image that is turned
    counter-clockwise.

    Nearest neighbour about the centre, as Pillow and torchvision rotate by default. Where the
    source lies outside the image, its index is one past the last pixel, where the benchmark stores
    a blank pixel.
    """
    angle = -math.radians(degrees % 360)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5 - height / 2,
        torch.arange(width, dtype=torch.float64) + 0.5 - width / 2,
        indexing="ij",
    )
    column = (cos * x + sin * y + width / 2).floor().long()
    row = (-sin * x + cos * y + height / 2).floor().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    plane_source = row * width + column
    source = plane_source + torch.arange(channels).view(-1, 1, 1) * height * width
    return torch.where(inside, source, channels * height * width).flatten()


def rotated(
    dataset: Dataset,
    tasks: int,
    angles: AngleRule,
    degrees: float,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
) -> Benchmark:
    """`tasks` rotations of the whole dataset.

    angles: `intervals` draws the angle of task t of T uniformly in [t, t + 1) * degrees / T (GEM,
    with 180); `uniform` draws every angle in [0, degrees) (DER, with 180); `steps` turns task t by
    t * degrees (OGD+, with 5). Tasks count from 0.
    """
    require(isinstance(tasks, int) and tasks > 0, "benchmark.tasks", "positive", tasks)
    require_choice(AngleRule, "benchmark.angles", angles)
    task_numbers = task_range(tasks, first_tasks, skip_tasks)
    tensors = dataset_tensors(dataset)
    blank_pixel = torch.zeros(len(tensors.images), 1, dtype=torch.uint8)
    image_shape = dataset.images.shape[1:]

    def angle(seed: int, task: int) -> float:
        if angles == "steps":
            return task * degrees
        draw = float(torch.rand((), generator=generator(seed, "angle", task), dtype=torch.float64))
        return draw * degrees if angles == "uniform" else (task + draw) * degrees / tasks

    def make_stream(seed: int) -> Stream:
        pixel_source = torch.stack(
            [rotation_pixel_source(angle(seed, task), *image_shape) for task in task_numbers]
        )
        train_rows = [
            draw_subset(tensors.train_rows, samples_per_task, seed, number)
            for number in range(len(task_numbers))
        ]
        classes = torch.arange(dataset.classes)
        view = TaskViews(pixel_source, (), classes, classes)
        return Stream(tuple(train_rows), (tensors.test_rows,) * len(task_numbers), view)

    return Benchmark(
        images=torch.cat([tensors.images, blank_pixel], dim=1),
        labels=tensors.labels,
        pixel_mean=(),
        pixel_std=(),
        image_shape=image_shape,
        outputs=dataset.classes,
        tasks=len(task_numbers),
        classes_per_task=dataset.classes,
        scenario="domain",
        make_stream=make_stream,
    )
