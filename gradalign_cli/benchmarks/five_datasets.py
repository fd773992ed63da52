"""5-Datasets: a task is a whole dataset (Ebrahimi et al. 2020, arXiv 2003.09553)."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.benchmarks.options import draw_subset, task_range
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require

CHANNELS, SIDE = 3, 32  # of every image as the network sees it


def can_be_padded(dataset: Dataset) -> bool:
    """Whether the images can be padded to 32 x 32 pixels and repeated to 3 channels."""
    channels, height, width = dataset.images.shape[1:]
    return channels in (1, CHANNELS) and max(height, width) <= SIDE


def padded_images(datasets: list[Dataset]) -> Tensor:
    """The images [N, 3, 32, 32] of all datasets, one dataset after the other. Grey images are
    repeated over the channels, smaller ones are centred in black."""
    sizes = [len(dataset.images) for dataset in datasets]
    padded = torch.zeros(sum(sizes), CHANNELS, SIDE, SIDE, dtype=torch.uint8)
    for part, dataset in zip(padded.split(sizes), datasets, strict=True):
        height, width = dataset.images.shape[2:]
        top, left = (SIDE - height) // 2, (SIDE - width) // 2
        part[:, :, top : top + height, left : left + width] = torch.from_numpy(dataset.images)
    return padded


def channel_mean_std(images: Tensor) -> Tensor:
    """Mean and standard deviation [2, channels] of the pixels, scaled to [0, 1], of uint8 images
    [n, channels, height, width]. The deviation of a constant channel is taken as 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    channels = []
    for channel in images.unbind(1):
        counts = sum(torch.bincount(part.flatten(), minlength=256) for part in channel.split(1000))
        frequency = torch.as_tensor(counts).double() / channel.numel()
        mean = frequency @ values
        std = (frequency @ (values - mean).square()).sqrt()
        channels.append(torch.stack([mean, torch.where(std > 0, std, 1.0)]))
    return torch.stack(channels, 1).float()


def five_datasets(
    datasets: list[Dataset],
    standardised: bool,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
) -> Benchmark:
    """One dataset after the other, in the order in which they are named, each with its own head.

    Images of 28 x 28 pixels are padded with two black pixels on every side, as by Ebrahimi et al.
    and in GPM's code (Saha et al. 2021). The yaml has the order of GPM's code; Ebrahimi et al. draw
    one.
    standardised: bring each channel of each dataset to mean 0 and deviation 1 over its training
    images, padding included, as both papers do.
    """
    check_datasets(datasets)
    classes = datasets[0].classes
    task_numbers = task_range(len(datasets), first_tasks, skip_tasks)
    task_datasets = [datasets[t] for t in task_numbers]
    images = padded_images(task_datasets)
    labels = torch.cat([torch.from_numpy(datasets[t].labels) + t * classes for t in task_numbers])
    rows_by_task = torch.arange(len(images)).split([len(d.images) for d in task_datasets])
    pairs = list(zip(rows_by_task, task_datasets, strict=True))
    train = [rows[: dataset.train_count] for rows, dataset in pairs]
    test = [rows[dataset.train_count :] for rows, dataset in pairs]
    logits = torch.arange(classes * len(datasets))
    visible_logit_mask = logits // classes == torch.tensor(task_numbers)[:, None]

    def make_stream(seed: int) -> Stream:
        subsets = [draw_subset(rows, samples_per_task, seed, t) for t, rows in enumerate(train)]
        view = TaskViews((), visible_logit_mask, logits, logits % classes)
        return Stream(tuple(subsets), tuple(test), view)

    return Benchmark(
        images=images.flatten(1),
        labels=labels,
        pixel_mean=(),
        pixel_std=(),
        image_shape=(CHANNELS, SIDE, SIDE),
        outputs=len(logits),
        tasks=len(task_numbers),
        classes_per_task=classes,
        scenario="task",
        make_stream=make_stream,
        task_mean_std=torch.stack([channel_mean_std(images[rows]) for rows in train])
        if standardised
        else (),
    )


def check_datasets(datasets: list[Dataset]) -> None:
    """Raise UserError unless all datasets have the same number of classes and images that can be
    padded."""
    sizes = [dataset.classes for dataset in datasets]
    require(
        len(set(sizes)) == 1,
        "benchmark.datasets",
        "datasets with the same number of classes",
        sizes,
    )
    for dataset in datasets:
        if not can_be_padded(dataset):
            raise UserError(
                f"`benchmark.datasets` must have 1 or 3 channels and at most 32 x 32 pixels, found "
                f"{list(dataset.images.shape[1:])} in {dataset.name}"
            )
