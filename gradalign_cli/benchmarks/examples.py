"""The examples of a dataset as tensors, and the choices every benchmark shares."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Absent
from gradalign_cli.data import Dataset
from gradalign_cli.draws import generator
from gradalign_cli.errors import UserError, require

SCENARIOS = ("task", "class", "domain")


class Examples(NamedTuple):
    """x: [N, pixels] uint8;  y: [N];  train, test: rows of the two parts."""

    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor


def examples(dataset: Dataset) -> Examples:
    """All images of a dataset as flat rows, the training part first."""
    x = torch.from_numpy(dataset.x).flatten(1)
    rows = torch.arange(len(x))
    return Examples(
        x, torch.from_numpy(dataset.y), rows[: dataset.n_train], rows[dataset.n_train :]
    )


def pixel_mean(found: Examples, centred: bool) -> Tensor | Absent:
    """The mean training image `[pixels]` in [0, 1], which A-GEM subtracts; else absent."""
    return found.x[found.train].float().mean(0) / 255 if centred else ()


def subset(rows: Tensor, size: int | None, seed: int, task: int) -> Tensor:
    """`size` of the rows, drawn without replacement from the seed; all of them when None."""
    if size is None:
        return rows
    require(size > 0, "benchmark.samples_per_task", "positive or null", size)
    if size > len(rows):
        raise UserError(
            f"`benchmark.samples_per_task` is {size}, but task {task + 1} has {len(rows)} examples"
        )
    return rows[torch.randperm(len(rows), generator=generator(seed, "subset", task))[:size]]


def task_range(tasks: int, first: int | None, skip: int) -> range:
    """The tasks kept of a sequence: after the first `skip`, at most `first` of them.

    Holding out the first tasks for the choice of hyper-parameters is A-GEM's protocol.
    """
    require(0 <= skip < tasks, "benchmark.skip_tasks", f"at least 0 and below {tasks}", skip)
    last = tasks if first is None else skip + first
    require(skip < last <= tasks, "benchmark.first_tasks", f"in 1..{tasks - skip} or null", first)
    return range(skip, last)
