"""Split benchmarks: the classes of one dataset dealt out to tasks (Split-MNIST, Split-CIFAR)."""

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, View
from gradalign_cli.benchmarks.options import (
    SCENARIOS,
    Standard,
    dataset_tensors,
    draw_subset,
    pixel_normalisation,
    task_range,
)
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require
from gradalign_cli.numerics.generators import generator

ORDERS = ("fixed", "drawn", "agem")
FIRST_SEED = 1234  # of A-GEM's five runs


def split(
    dataset: Dataset,
    classes_per_task: int,
    scenario: str,
    class_order: str = "fixed",
    superclasses: bool = False,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
    centred: bool = False,
    standard: Standard = None,
) -> Benchmark:
    """Deal the classes out to tasks, `classes_per_task` at a time.

    scenario: `task` (a task uses its own logits alone, so it needs task ids), `class` (all tasks
    share all logits; tests also count what a task's own logits alone get right) or `domain` (every
    task uses the same `classes_per_task` logits).
    class_order: `fixed` is the dataset's; `drawn` shuffles per seed, keeping the classes of the
    first `skip_tasks` tasks in place, so that held-out tasks are the same for every seed (A-GEM);
    `agem` does so too, and seeds 0 to 4 meet the very orders of that paper's five runs.
    superclasses: one task a superclass (CIFAR-100 has 20 of five classes each). centred, standard:
    see `normalisation`.
    """
    require(scenario in SCENARIOS, "benchmark.scenario", f"one of {', '.join(SCENARIOS)}", scenario)
    known = f"one of {', '.join(ORDERS)}"
    require(class_order in ORDERS, "benchmark.class_order", known, class_order)
    classes = dataset.classes
    require(
        isinstance(classes_per_task, int)
        and classes_per_task > 0
        and classes % classes_per_task == 0,
        "benchmark.classes_per_task",
        f"a divisor of the {classes} classes of {dataset.name}",
        classes_per_task,
    )
    tasks = classes // classes_per_task
    kept = task_range(tasks, first_tasks, skip_tasks)
    found = dataset_tensors(dataset)
    start = torch.arange(classes)
    if superclasses:
        if dataset.superclass is None:
            raise UserError(f"`benchmark.superclasses` needs superclasses, {dataset.name} has none")
        superclass = torch.from_numpy(dataset.superclass)
        sizes = superclass.bincount()
        require(
            bool((sizes == classes_per_task).all()),
            "benchmark.classes_per_task",
            f"the {int(sizes[0])} classes of a superclass",
            classes_per_task,
        )
        start = superclass.argsort(stable=True)

    def order(seed: int) -> Tensor:
        if class_order == "fixed":
            return start
        held, rest = start.view(tasks, -1)[:skip_tasks], start.view(tasks, -1)[skip_tasks:]
        rest = rest if superclasses else rest.flatten()  # whose groups stay together
        if class_order == "agem":
            source = np.random.RandomState((FIRST_SEED + seed) % 2**32)
            drawn = torch.from_numpy(source.permutation(len(rest)))
        else:
            drawn = torch.randperm(len(rest), generator=generator(seed, "class order"))
        return torch.cat([held.flatten(), rest[drawn].flatten()])

    def stream(seed: int) -> Stream:
        groups = order(seed).view(tasks, classes_per_task)
        position = torch.empty(classes, dtype=torch.long)
        position[groups] = torch.arange(classes_per_task).expand_as(groups)
        train, test = [], []
        for number, task in enumerate(kept):
            member = torch.isin(found.labels, groups[task])
            rows = draw_subset(
                found.train_rows[member[found.train_rows]], samples_per_task, seed, number
            )
            train.append(rows)
            test.append(found.test_rows[member[found.test_rows]])
        own = torch.zeros(len(kept), classes, dtype=torch.bool)
        own.scatter_(1, groups[kept.start : kept.stop], True)
        label = position if scenario == "domain" else torch.arange(classes)
        visible, tested = (own if scenario == kind else () for kind in ("task", "class"))
        view = View((), visible, label, position, tested)
        return Stream(tuple(train), tuple(test), view)

    outputs = classes_per_task if scenario == "domain" else classes
    return Benchmark(
        found.images,
        found.labels,
        *pixel_normalisation(found, dataset.x.shape[1], centred, standard),
        dataset.x.shape[1:],
        outputs,
        len(kept),
        classes_per_task,
        scenario,
        stream,
    )
