"""Split benchmarks: the classes of one dataset dealt out to tasks (Split-MNIST, Split-CIFAR)."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.benchmarks.options import (
    MeanAndDeviation,
    Scenario,
    dataset_tensors,
    draw_subset,
    pixel_normalisation,
    task_range,
)
from gradalign_cli.data import Dataset
from gradalign_cli.errors import UserError, require, require_choice
from gradalign_cli.numerics.generators import generator

ClassOrder = Literal["fixed", "drawn", "agem"]
FIRST_SEED = 1234  # of A-GEM's five runs


def split(
    dataset: Dataset,
    classes_per_task: int,
    scenario: Scenario,
    class_order: ClassOrder = "fixed",
    superclasses: bool = False,
    samples_per_task: int | None = None,
    skip_tasks: int = 0,
    first_tasks: int | None = None,
    centred: bool = False,
    standard: MeanAndDeviation = None,
) -> Benchmark:
    """Deal the classes out to tasks, `classes_per_task` at a time.

    scenario: `task` (a task uses its own logits alone, so it needs task ids), `class` (all tasks
    share all logits; tests also count what a task's own logits alone get right) or `domain` (every
    task uses the same `classes_per_task` logits).
    class_order: `fixed` is the dataset's; `drawn` and `agem` are drawn from the seed, see
    `drawn_class_groups`.
    superclasses: every task is a superclass (CIFAR-100 has 20 of five classes each). centred,
    standard: see `pixel_normalisation`.
    """
    check_split(dataset, classes_per_task, scenario, class_order)
    tasks = dataset.classes // classes_per_task
    task_numbers = task_range(tasks, first_tasks, skip_tasks)
    tensors = dataset_tensors(dataset)
    fixed_groups = fixed_class_groups(dataset, classes_per_task, superclasses)

    def make_stream(seed: int) -> Stream:
        class_groups = fixed_groups
        if class_order != "fixed":
            class_groups = drawn_class_groups(
                fixed_groups, class_order, skip_tasks, superclasses, seed
            )
        train_rows, test_rows = [], []
        for number, task in enumerate(task_numbers):
            in_task = torch.isin(tensors.labels, class_groups[task])
            rows = tensors.train_rows[in_task[tensors.train_rows]]
            train_rows.append(draw_subset(rows, samples_per_task, seed, number))
            test_rows.append(tensors.test_rows[in_task[tensors.test_rows]])
        view = split_view(class_groups, task_numbers, scenario)
        return Stream(tuple(train_rows), tuple(test_rows), view)

    pixel_mean, pixel_std = pixel_normalisation(tensors, dataset.images.shape[1], centred, standard)
    return Benchmark(
        images=tensors.images,
        labels=tensors.labels,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
        image_shape=dataset.images.shape[1:],
        outputs=classes_per_task if scenario == "domain" else dataset.classes,
        tasks=len(task_numbers),
        classes_per_task=classes_per_task,
        scenario=scenario,
        make_stream=make_stream,
    )


def check_split(
    dataset: Dataset, classes_per_task: int, scenario: Scenario, class_order: ClassOrder
) -> None:
    """Raise UserError where an option of `split` has a value out of its domain."""
    require_choice(Scenario, "benchmark.scenario", scenario)
    require_choice(ClassOrder, "benchmark.class_order", class_order)
    require(
        isinstance(classes_per_task, int)
        and classes_per_task > 0
        and dataset.classes % classes_per_task == 0,
        "benchmark.classes_per_task",
        f"a divisor of the {dataset.classes} classes of {dataset.name}",
        classes_per_task,
    )


def fixed_class_groups(dataset: Dataset, classes_per_task: int, by_superclass: bool) -> Tensor:
    """The classes [T, classes_per_task] of each task: in the dataset's order, or one superclass a
    task.

    Raises UserError where the dataset has no superclasses or these have another size.
    """
    if not by_superclass:
        return torch.arange(dataset.classes).view(-1, classes_per_task)
    if dataset.superclass_of_class is None:
        raise UserError(f"`benchmark.superclasses` needs superclasses, {dataset.name} has none")
    superclass_of_class = torch.from_numpy(dataset.superclass_of_class)
    sizes = superclass_of_class.bincount()
    require(
        bool((sizes == classes_per_task).all()),
        "benchmark.classes_per_task",
        f"the {int(sizes[0])} classes of a superclass",
        classes_per_task,
    )
    return superclass_of_class.argsort(stable=True).view(-1, classes_per_task)


def drawn_class_groups(
    fixed_groups: Tensor,
    class_order: ClassOrder,
    unshuffled_tasks: int,
    shuffle_whole_groups: bool,
    seed: int,
) -> Tensor:
    """The classes [T, classes_per_task] of each task in an order drawn from the seed.

    The classes of the first `unshuffled_tasks` tasks stay in place, so that these tasks are the
    same for every seed (A-GEM). With `shuffle_whole_groups` the classes of a group stay together.
    class_order: with `agem`, seeds 0 to 4 give the very orders of that paper's five runs; `drawn`
    uses a generator of this package.
    """
    skipped_groups, class_groups = fixed_groups[:unshuffled_tasks], fixed_groups[unshuffled_tasks:]
    units = class_groups if shuffle_whole_groups else class_groups.flatten()  # that change places
    if class_order == "agem":
        source = np.random.RandomState((FIRST_SEED + seed) % 2**32)
        order = torch.from_numpy(source.permutation(len(units)))
    else:
        order = torch.randperm(len(units), generator=generator(seed, "class order"))
    return torch.cat([skipped_groups, units[order].view_as(class_groups)])


def split_view(class_groups: Tensor, task_numbers: range, scenario: Scenario) -> TaskViews:
    """Which logits the tasks `task_numbers` use. class_groups: the classes [T, classes_per_task] of
    all tasks."""
    classes = class_groups.numel()
    class_in_task = torch.empty(classes, dtype=torch.long)
    class_in_task[class_groups] = torch.arange(class_groups.shape[1]).expand_as(class_groups)
    task_logit_mask = torch.zeros(len(task_numbers), classes, dtype=torch.bool)
    task_logit_mask.scatter_(1, class_groups[task_numbers.start : task_numbers.stop], True)
    return TaskViews(
        pixel_source=(),
        visible_logit_mask=task_logit_mask if scenario == "task" else (),
        logit_of_class=class_in_task if scenario == "domain" else torch.arange(classes),
        class_in_task=class_in_task,
        task_logit_mask=task_logit_mask if scenario == "class" else (),
    )
