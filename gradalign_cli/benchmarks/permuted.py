"""Permuted benchmarks: every task sees the pixels of all classes in an order of its own."""

import torch

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, View
from gradalign_cli.benchmarks.options import (
    Standard,
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
    standard: Standard = None,
) -> Benchmark:
    """`tasks` fixed random orders of the pixels (Goodfellow et al. 2014; GEM permutes task 1 too).

    first_identity: the first task keeps the images as they are. centred, standard: see
    `normalisation`.
    """
    require(isinstance(tasks, int) and tasks > 0, "benchmark.tasks", "positive", tasks)
    kept = task_range(tasks, first_tasks, skip_tasks)
    found = dataset_tensors(dataset)
    width = found.images.shape[1]
    offset, scale = pixel_normalisation(found, dataset.x.shape[1], centred, standard)

    def stream(seed: int) -> Stream:
        pixels = torch.stack(
            [torch.randperm(width, generator=generator(seed, "permutation", t)) for t in kept]
        )
        if first_identity and kept.start == 0:
            pixels[0] = torch.arange(width)
        train = [draw_subset(found.train_rows, samples_per_task, seed, t) for t in range(len(kept))]
        own = torch.arange(dataset.classes)
        view = View(pixels, (), own, own)
        return Stream(tuple(train), (found.test_rows,) * len(kept), view)

    return Benchmark(
        found.images,
        found.labels,
        offset,
        scale,
        dataset.x.shape[1:],
        dataset.classes,
        len(kept),
        dataset.classes,
        "domain",
        stream,
    )
