"""5-Datasets: a task is a whole dataset (Ebrahimi et al. 2020, arXiv 2003.09553)."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, View
from gradalign_cli.benchmarks.options import draw_subset, task_range
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require

CHANNELS, SIDE = 3, 32  # of every image as the network sees it


def fits(dataset: Dataset) -> bool:
    """Whether the images can be padded to 32 x 32 and repeated to 3 channels."""
    channels, height, width = dataset.x.shape[1:]
    return channels in (1, CHANNELS) and max(height, width) <= SIDE


def padded(datasets: list[Dataset]) -> Tensor:
    """All images [N, 3, 32, 32] one dataset after the other: grey ones repeated over the channels,
    smaller ones in the middle of zeros."""
    x = torch.zeros(sum(len(d.x) for d in datasets), CHANNELS, SIDE, SIDE, dtype=torch.uint8)
    for part, dataset in zip(x.split([len(d.x) for d in datasets]), datasets, strict=True):
        height, width = dataset.x.shape[2:]
        top, left = (SIDE - height) // 2, (SIDE - width) // 2
        part[:, :, top : top + height, left : left + width] = torch.from_numpy(dataset.x)
    return x


def mean_and_deviation(x: Tensor) -> Tensor:
    """Of the pixels in [0, 1] of each channel of images [n, channels, height, width] in bytes:
    [2, channels]; a constant channel's deviation is taken as 1."""
    value = torch.arange(256, dtype=torch.float64) / 255
    found = []
    for channel in x.unbind(1):
        counts = sum(torch.bincount(part.flatten(), minlength=256) for part in channel.split(1000))
        share = torch.as_tensor(counts).double() / channel.numel()
        mean = share @ value
        deviation = (share @ (value - mean).square()).sqrt()
        found.append(torch.stack([mean, torch.where(deviation > 0, deviation, 1.0)]))
    return torch.stack(found, 1).float()


def five_datasets(
    datasets: list[Dataset],
    standardised: bool,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
) -> Benchmark:
    """One dataset after the other, in the order in which they are named, a head for each.

    Images of 28 x 28 are padded with two black pixels on every side, as by Ebrahimi et al. and in
    GPM's code (Saha et al. 2021), which has the order of the yaml; Ebrahimi et al. draw one.
    standardised: each dataset's channels are brought to mean 0 and deviation 1 over its training
    images, padding included, as both do.
    """
    sizes = [dataset.classes for dataset in datasets]
    classes = sizes[0]
    require(len(set(sizes)) == 1, "benchmark.datasets", "datasets of as many classes", sizes)
    for dataset in datasets:
        if not fits(dataset):
            raise UserError(
                f"`benchmark.datasets` must have 1 or 3 channels and at most 32 x 32 pixels, found "
                f"{list(dataset.x.shape[1:])} in {dataset.name}"
            )
    kept = task_range(len(datasets), first_tasks, skip_tasks)
    held = [datasets[t] for t in kept]
    x = padded(held)
    y = torch.cat([torch.from_numpy(datasets[t].y) + t * classes for t in kept])
    rows = torch.arange(len(x)).split([len(d.x) for d in held])
    train = [own[: d.n_train] for own, d in zip(rows, held, strict=True)]
    test = [own[d.n_train :] for own, d in zip(rows, held, strict=True)]
    label = torch.arange(classes * len(datasets))
    visible = label // classes == torch.tensor(kept)[:, None]

    def stream(seed: int) -> Stream:
        drawn = [draw_subset(own, samples_per_task, seed, t) for t, own in enumerate(train)]
        return Stream(tuple(drawn), tuple(test), View((), visible, label, label % classes))

    return Benchmark(
        x.flatten(1),
        y,
        (),
        (),
        (CHANNELS, SIDE, SIDE),
        len(label),
        len(kept),
        classes,
        "task",
        stream,
        torch.stack([mean_and_deviation(x[own]) for own in train]) if standardised else (),
    )
