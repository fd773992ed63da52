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


def normalisation(
    found: Examples, centred: bool, standard: list[float] | None
) -> tuple[Tensor | Absent, float]:
    """What is subtracted from pixels in [0, 1], [pixels] or nothing, and what they are divided by.

    centred: the mean training image, as A-GEM does; standard: [mean, deviation], as GPM does.
    """
    require(not (centred and standard), "benchmark.standard", "null where centred", standard)
    if standard:
        fits = len(standard) == 2 and all(isinstance(s, float | int) for s in standard)
        require(fits and standard[1] > 0, "benchmark.standard", "[mean, deviation]", standard)
        return torch.full((found.x.shape[1],), float(standard[0])), float(standard[1])
    if centred:
        return found.x[found.train].float().mean(0) / 255, 1.0
    return (), 1.0


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
