"""The images of a dataset as tensors, and the options that benchmarks share."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Stream
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import Absent

Scenario = Literal["task", "class", "domain"]
MeanAndDeviation = list[float] | list[list[float]] | None


class PixelNormalisation(NamedTuple):
    """What is subtracted from pixels in [0, 1], and what they are then divided by: [pixels] each,
    or absent."""

    pixel_mean: Tensor | Absent
    pixel_std: Tensor | Absent


class DatasetTensors(NamedTuple):
    """images: [N, pixels] uint8;  labels: [N];  train_rows, test_rows: the rows of each part."""

    images: Tensor
    labels: Tensor
    train_rows: Tensor
    test_rows: Tensor


def dataset_tensors(dataset: Dataset) -> DatasetTensors:
    """All images of a dataset as flat rows, the training images first."""
    images = torch.from_numpy(dataset.images).flatten(1)
    rows = torch.arange(len(images))
    return DatasetTensors(
        images,
        torch.from_numpy(dataset.labels),
        rows[: dataset.train_count],
        rows[dataset.train_count :],
    )


def pixel_normalisation(
    tensors: DatasetTensors,
    channels: int,
    subtract_mean_image: bool,
    mean_and_deviation: MeanAndDeviation,
) -> PixelNormalisation:
    """The normalisation that the settings `centred` and `standard` of a benchmark ask for.

    subtract_mean_image: of the training images, as A-GEM does. mean_and_deviation: the mean that is
    subtracted and the deviation that is divided by, as GPM does; each is a number, or a list with a
    number for every channel. Raises UserError where both are asked for or the latter does not fit.
    """
    require(
        not (subtract_mean_image and mean_and_deviation),
        "benchmark.standard",
        "null where centred",
        mean_and_deviation,
    )
    if mean_and_deviation:
        parts = [
            part if isinstance(part, list) else [part] * channels for part in mean_and_deviation
        ]
        numbers = [number for part in parts for number in part]
        fits = [len(part) for part in parts] == [channels] * 2
        fits = fits and all(isinstance(number, float | int) for number in numbers)
        domain = f"[mean, deviation], each a number or a list of {channels}, one a channel"
        require(fits and min(parts[1]) > 0, "benchmark.standard", domain, mean_and_deviation)
        channel_pixels = tensors.images.shape[1] // channels
        mean, deviation = (
            torch.tensor(part).float().repeat_interleave(channel_pixels) for part in parts
        )
        return PixelNormalisation(mean, deviation)
    if subtract_mean_image:
        mean_image = tensors.images[tensors.train_rows].float().mean(0) / 255
        return PixelNormalisation(mean_image, ())
    return PixelNormalisation((), ())


def draw_subset(rows: Tensor, size: int | None, seed: int, task: int) -> Tensor:
    """`size` of the rows, drawn without replacement from the seed; all rows where it is None.

    Raises UserError where `size` is not positive or larger than the number of rows.
    """
    if size is None:
        return rows
    require(size > 0, "benchmark.samples_per_task", "positive or null", size)
    if size > len(rows):
        raise UserError(
            f"`benchmark.samples_per_task` is {size}, but task {task + 1} has {len(rows)} examples"
        )
    return rows[torch.randperm(len(rows), generator=generator(seed, "subset", task))[:size]]


def with_held_out_rows(stream: Stream, share: float, seed: int) -> Stream:
    """Hold a share of each task's training rows out, at least one row, drawn from the seed.

    Part t of the stream holds task t alone. Raises UserError where no row would be left to train
    on.
    """
    train_rows, held_out_rows = [], []
    for task, rows in enumerate(stream.train_rows):
        size = max(round(share * len(rows)), 1)
        if size >= len(rows):
            raise UserError(
                f"`schedule.held_out_share` leaves nothing of the {len(rows)} examples"
                f" of task {task + 1}"
            )
        shuffled = rows[torch.randperm(len(rows), generator=generator(seed, "held out", task))]
        held_out_rows.append(shuffled[:size])
        train_rows.append(shuffled[size:])
    return stream._replace(
        train_rows=tuple(train_rows), train_tasks=(), held_out_rows=tuple(held_out_rows)
    )


def task_range(tasks: int, tasks_after_skip: int | None, skip_tasks: int) -> range:
    """The numbers of the tasks that are trained: of all `tasks`, the first `skip_tasks` are left
    out, and the `tasks_after_skip` that follow are taken, all where it is None.

    In A-GEM's protocol the first tasks serve to choose hyper-parameters and are then left out.
    Raises UserError where a number does not fit.
    """
    require(
        0 <= skip_tasks < tasks,
        "benchmark.skip_tasks",
        f"at least 0 and below {tasks}",
        skip_tasks,
    )
    end = tasks if tasks_after_skip is None else skip_tasks + tasks_after_skip
    require(
        skip_tasks < end <= tasks,
        "benchmark.first_tasks",
        f"in 1..{tasks - skip_tasks} or null",
        tasks_after_skip,
    )
    return range(skip_tasks, end)
