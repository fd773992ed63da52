"""Quick: the first tasks and a part of the examples of any benchmark, to try a run in minutes."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.numerics.generators import generator
from gradalign_cli.numerics.trees import Absent

TASKS, TRAIN_EXAMPLES, TEST_EXAMPLES = 3, 200, 500  # at most; the examples are of each task


def quick_benchmark(benchmark: Benchmark) -> Benchmark:
    """The first three tasks of a benchmark with at most 200 examples each to train and 500 to test
    on, drawn from the seed."""
    tasks = min(TASKS, benchmark.tasks)

    def make_stream(seed: int) -> Stream:
        whole = benchmark.make_stream(seed)
        parts = (
            (whole.train_rows, TRAIN_EXAMPLES, "quick train"),
            (whole.test_rows, TEST_EXAMPLES, "quick test"),
        )
        train_rows, test_rows = (
            tuple(
                draw_few_rows(rows[task], count, generator(seed, purpose, task))
                for task in range(tasks)
            )
            for rows, count, purpose in parts
        )
        return whole._replace(
            train_rows=train_rows, test_rows=test_rows, view=first_views(whole.view, tasks)
        )

    task_mean_std = benchmark.task_mean_std
    return benchmark._replace(
        tasks=tasks, make_stream=make_stream, task_mean_std=first_entries(task_mean_std, tasks)
    )


def draw_few_rows(rows: Tensor, max_count: int, random_generator: torch.Generator) -> Tensor:
    """At most `max_count` of the rows [n], in their order."""
    chosen = torch.randperm(len(rows), generator=random_generator)[:max_count]
    return rows[chosen.sort().values]


def first_entries(field: Tensor | Absent, count: int) -> Tensor | Absent:
    """The first entries [count, ...] of a field, where it is there."""
    return field[:count] if isinstance(field, Tensor) else ()


def first_views(view: TaskViews, tasks: int) -> TaskViews:
    """The views of the first tasks alone."""
    return view._replace(
        pixel_source=first_entries(view.pixel_source, tasks),
        visible_logit_mask=first_entries(view.visible_logit_mask, tasks),
        task_logit_mask=first_entries(view.task_logit_mask, tasks),
    )
