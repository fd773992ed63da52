"""Rotated benchmarks: every task sees the images of all classes turned by an angle of its own."""

import math

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, View
from gradalign_cli.benchmarks.options import dataset_tensors, draw_subset, task_range
from gradalign_cli.data import Dataset
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator

ANGLES = ("intervals", "uniform", "steps")


def rotation(degrees: float, channels: int, height: int, width: int) -> Tensor:
    """The source pixel `[channels * height * width]` of every pixel after a turn to the left.

    Nearest neighbour about the centre, as Pillow and torchvision rotate by default. A pixel whose
    source lies outside is given the index one past the last pixel, where a blank pixel is kept.
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
    plane = row * width + column
    source = plane + torch.arange(channels).view(-1, 1, 1) * height * width
    return torch.where(inside, source, channels * height * width).flatten()


def rotated(
    dataset: Dataset,
    tasks: int,
    angles: str,
    degrees: float,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
) -> Benchmark:
    """`tasks` rotations of the whole dataset.

    angles: `intervals` draws task t of T uniformly in [t, t + 1) * degrees / T (GEM, with 180);
    `uniform` draws every task in [0, degrees] (DER, with 180); `steps` turns task t by
    t * degrees (OGD+, with 5).
    """
    require(isinstance(tasks, int) and tasks > 0, "benchmark.tasks", "positive", tasks)
    require(angles in ANGLES, "benchmark.angles", f"one of {', '.join(ANGLES)}", angles)
    kept = task_range(tasks, first_tasks, skip_tasks)
    found = dataset_tensors(dataset)
    blank = torch.zeros(len(found.images), 1, dtype=torch.uint8)
    channels, height, width = dataset.x.shape[1:]

    def angle(seed: int, task: int) -> float:
        if angles == "steps":
            return task * degrees
        draw = float(torch.rand((), generator=generator(seed, "angle", task), dtype=torch.float64))
        return draw * degrees if angles == "uniform" else (task + draw) * degrees / tasks

    def stream(seed: int) -> Stream:
        pixels = torch.stack([rotation(angle(seed, t), channels, height, width) for t in kept])
        train = [draw_subset(found.train_rows, samples_per_task, seed, t) for t in range(len(kept))]
        own = torch.arange(dataset.classes)
        return Stream(tuple(train), (found.test_rows,) * len(kept), View(pixels, (), own, own))

    return Benchmark(
        torch.cat([found.images, blank], dim=1),
        found.labels,
        (),
        (),
        (channels, height, width),
        dataset.classes,
        len(kept),
        dataset.classes,
        "domain",
        stream,
    )
