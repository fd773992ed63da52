"""Evaluation: what the learners of all replicas answer on rows of a task."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.benchmark import Absent, Examples, View, mask, show
from gradalign_cli.engines.engine import CPU, Engine
from gradalign_cli.learner import Learner, Parts, make_network
from gradalign_cli.replica import Replica, default, put
from gradalign_cli.trees import take

TEST_BATCH = 2000


def accuracy(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    learners: Learner,
    views: View,
    tasks: Sequence[int],
    samples: int | None = None,
) -> Tensor:
    """Accuracy [1 or 2, R, tasks] on the test set of each task, as a fraction of its examples: with
    the logits that count in training, and with the task's own alone where a view tells them apart.

    samples: of a test set that are looked at, evenly spread; all of them when None.
    """

    def right(logits: Tensor, examples: Examples, own: Tensor | Absent) -> Tensor:
        masks = [examples.visible, own] if isinstance(own, Tensor) else [examples.visible]
        guesses = torch.stack([mask(logits, visible).argmax(1) for visible in masks])
        return (guesses == examples.label).sum(1)

    columns = []
    for task in tasks:
        rows = torch.stack([replica.stream.test[task] for replica in replicas])
        if samples and samples < rows.shape[1]:
            rows = rows[:, torch.linspace(0, rows.shape[1] - 1, samples).long()]
        columns.append(mean_of_answers(parts, engine, learners, views, task, rows, right))
    return torch.stack(columns, 1).movedim(2, 0).to(CPU)


def held_out_loss(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    learners: Learner,
    views: View,
    task: int,
) -> float:
    """The mean cross-entropy of a single replica on what is held out of a task."""
    rows = torch.stack([replica.stream.held[task] for replica in replicas])

    def of(logits: Tensor, examples: Examples, own: Tensor | Absent) -> Tensor:
        seen = mask(logits, examples.visible)
        return functional.cross_entropy(seen, examples.label, reduction="sum")

    return float(mean_of_answers(parts, engine, learners, views, task, rows, of))


def mean_of_answers(
    parts: Parts,
    engine: Engine,
    learners: Learner,
    views: View,
    task: int,
    rows: Tensor,
    of: Callable[[Tensor, Examples, Tensor | Absent], Tensor],
) -> Tensor:
    """The mean [R, ...] over rows [R, n] of a task of what the network answers, as it is tested.

    of: (logits [n, outputs], examples, the task's own logits [n, outputs] or absent) -> the sum
    [...] over examples of what is asked for.
    """
    network = make_network(parts.model, training=False)

    def total(learner: Learner, view: View, rows: Tensor, number: Tensor) -> Tensor:
        examples = show(parts.benchmark, view, rows, number)
        params = parts.method.tested(learner.method, learner.params, task, parts.model.layers)
        logits = network(params, learner.statistics, examples).logits
        own = take(view.own, number) if isinstance(view.own, Tensor) else ()
        return of(logits, examples, own)

    with torch.no_grad(), default(engine.device):
        number = torch.full((len(rows), 1), task)
        totals = [
            engine.each(total, learners, views, some, number)
            for some in put(rows, engine.device).split(TEST_BATCH, 1)
        ]
        return torch.stack(totals).sum(0) / rows.shape[1]
