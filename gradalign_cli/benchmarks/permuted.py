"""Permuted benchmarks: every task sees the pixels of all images in its own fixed order."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.benchmarks.options import (
    MeanAndDeviation,
    dataset_tensors,
    draw_subset,
    pixel_normalisation,
    task_range,
)
from gradalign_cli.data import Dataset
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator


def permuted(
    dataset: Dataset,
    tasks: int,
    samples_per_task: int | None = None,
    first_identity: bool = False,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
    centred: bool = False,
    standard: MeanAndDeviation = None,
) -> Benchmark:
    """`tasks` fixed random orders of the pixels (Goodfellow et al. 2014; GEM permutes task 1 too).

    first_identity: the first task sees the images as they are. centred, standard: see
    `pixel_normalisation`.
    """
    require(isinstance(tasks, int) and tasks > 0, "benchmark.tasks", "positive", tasks)
    task_numbers = task_range(tasks, first_tasks, skip_tasks)
    tensors = dataset_tensors(dataset)
    pixels = tensors.images.shape[1]
    pixel_mean, pixel_std = pixel_normalisation(tensors, dataset.images.shape[1], centred, standard)

    def pixel_order(seed: int, task: int) -> Tensor:
        return torch.randperm(pixels, generator=generator(seed, "permutation", task))

    def make_stream(seed: int) -> Stream:
        pixel_source = torch.stack([pixel_order(seed, task) for task in task_numbers])
        if first_identity and task_numbers.start == 0:
            pixel_source[0] = torch.arange(pixels)
        train_rows = [
            draw_subset(tensors.train_rows, samples_per_task, seed, number)
            for number in range(len(task_numbers))
        ]
        classes = torch.arange(dataset.classes)
        view = TaskViews(pixel_source, (), classes, classes)
        return Stream(tuple(train_rows), (tensors.test_rows,) * len(task_numbers), view)

    return Benchmark(
        images=tensors.images,
        labels=tensors.labels,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
        image_shape=dataset.images.shape[1:],
        outputs=dataset.classes,
        tasks=len(task_numbers),
        classes_per_task=dataset.classes,
        scenario="domain",
        make_stream=make_stream,
    )
