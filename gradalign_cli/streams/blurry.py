"""Blurry boundaries: a share of each task's examples comes in the parts of other tasks (Bang et al.
2021)."""

import math

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, all_training_rows_and_tasks
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator


def blurry(benchmark: Benchmark, share: float) -> Benchmark:
    """The benchmark with one part for each task, where `share` of the task's examples come in the
    parts of other tasks.

    Of the n examples of task t, share * n (rounded down) are drawn from the seed and dealt out, one
    by one, to the parts of tasks t + 1, t + 2, ..., after the last task from the first on, leaving
    out t. The other examples come in part t. So every example still comes once. Where tasks are
    equally large, all parts keep their size and have exactly that share of examples of other tasks:
    with M = 100 share this is blurry-M of Rainbow Memory (arXiv 2103.17230). A share of 0 leaves
    boundaries sharp; 1 - 1 / T, for T tasks, makes the mixture of all parts the same.

    Every example is shown as its own task shows it. An earlier task is one whose part is over. When
    a part ends, methods and buffers are told so and are given those examples of its task that came
    in this part.
    """
    tasks = benchmark.tasks
    require(0 <= share <= 1 - 1 / tasks, "stream.share", f"in [0, 1 - 1 / {tasks}]", share)

    def make_stream(seed: int) -> Stream:
        sharp = benchmark.make_stream(seed)
        parts = torch.cat(
            [
                parts_of_rows(rows, task, tasks, share, seed)
                for task, rows in enumerate(sharp.train_rows)
            ]
        )
        masks = [parts == part for part in range(tasks)]
        train_rows, train_tasks = (
            tuple(field[mask] for mask in masks) for field in all_training_rows_and_tasks(sharp)
        )
        return sharp._replace(train_rows=train_rows, train_tasks=train_tasks)

    return benchmark._replace(make_stream=make_stream, boundaries="blurry" if share else "sharp")


def parts_of_rows(rows: Tensor, task: int, tasks: int, share: float, seed: int) -> Tensor:
    """The part [n] in which each of the rows [n] of a task comes, see `blurry`."""
    count = math.floor(share * len(rows) + 1e-9)  # 0.29 * 100 is a little less than 29
    moved = torch.randperm(len(rows), generator=generator(seed, "blurry", task))[:count]
    offsets = 1 + torch.arange(count) % max(tasks - 1, 1)
    return torch.full_like(rows, task).index_copy(0, moved, (task + offsets) % tasks)
