"""The examples of a dataset as tensors, and the choices every benchmark shares."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Stream
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import Absent

SCENARIOS = ("task", "class", "domain")
Standard = list[float] | list[list[float]] | None


class DatasetTensors(NamedTuple):
    """x: [N, pixels] uint8;  y: [N];  train, test: rows of the two parts."""

    images: Tensor
    labels: Tensor
    train_rows: Tensor
    test_rows: Tensor


def dataset_tensors(dataset: Dataset) -> DatasetTensors:
    """All images of a dataset as flat rows, the training part first."""
    x = torch.from_numpy(dataset.x).flatten(1)
    rows = torch.arange(len(x))
    return DatasetTensors(
        x, torch.from_numpy(dataset.y), rows[: dataset.n_train], rows[dataset.n_train :]
    )


def pixel_normalisation(
    found: DatasetTensors, channels: int, centred: bool, standard: Standard
) -> tuple[Tensor | Absent, Tensor | Absent]:
    """What is subtracted from pixels in [0, 1] and what they are divided by, [pixels] or absent.

    centred: the mean training image, as A-GEM does; standard: [mean, deviation], as GPM does, each
    a number or a list of one for each channel.
    """
    require(not (centred and standard), "benchmark.standard", "null where centred", standard)
    if standard:
        parts = [part if isinstance(part, list) else [part] * channels for part in standard]
        numbers = [number for part in parts for number in part]
        fits = [len(part) for part in parts] == [channels] * 2
        fits = fits and all(isinstance(number, float | int) for number in numbers)
        domain = f"[mean, deviation], each a number or a list of {channels}, one a channel"
        require(fits and min(parts[1]) > 0, "benchmark.standard", domain, standard)
        each = found.images.shape[1] // channels
        offset, scale = (torch.tensor(p).float().repeat_interleave(each) for p in parts)
        return offset, scale
    if centred:
        return found.images[found.train_rows].float().mean(0) / 255, ()
    return (), ()


def draw_subset(rows: Tensor, size: int | None, seed: int, task: int) -> Tensor:
    """`size` of the rows, drawn without replacement from the seed; all of them when None."""
    if size is None:
        return rows
    require(size > 0, "benchmark.samples_per_task", "positive or null", size)
    if size > len(rows):
        raise UserError(
            f"`benchmark.samples_per_task` is {size}, but task {task + 1} has {len(rows)} examples"
        )
    return rows[torch.randperm(len(rows), generator=generator(seed, "subset", task))[:size]]


def hold_out(stream: Stream, share: float, seed: int) -> Stream:
    """The stream with a share of each task's training rows, at least one, held out by the seed."""
    train, held = [], []
    for task, rows in enumerate(stream.train_rows):
        size = max(round(share * len(rows)), 1)
        if size >= len(rows):
            raise UserError(
                f"`schedule.held_out` leaves nothing of the {len(rows)} examples of task {task + 1}"
            )
        drawn = rows[torch.randperm(len(rows), generator=generator(seed, "held out", task))]
        held.append(drawn[:size])
        train.append(drawn[size:])
    return stream._replace(train_rows=tuple(train), held_out_rows=tuple(held))


def task_range(tasks: int, first: int | None, skip: int) -> range:
    """The tasks kept of a sequence: after the first `skip`, at most `first` of them.

    Holding out the first tasks for the choice of hyper-parameters is A-GEM's protocol.
    """
    require(0 <= skip < tasks, "benchmark.skip_tasks", f"at least 0 and below {tasks}", skip)
    last = tasks if first is None else skip + first
    require(skip < last <= tasks, "benchmark.first_tasks", f"in 1..{tasks - skip} or null", first)
    return range(skip, last)
