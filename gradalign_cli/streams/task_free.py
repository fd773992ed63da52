"""Task-free: the mixture of tasks changes gradually, and the learner is told of no task (Aljundi et
al. 2019)."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, all_training_rows_and_tasks
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator


def task_free(benchmark: Benchmark, width: float) -> Benchmark:
    """The benchmark as one stream without boundaries, for learners that are told neither the task
    of an example nor where a task ends (arXiv 1812.03596).

    Every example of task t (from 0) arrives at a time drawn from a normal distribution with mean t
    and deviation `width`, and comes once, in the order of arrival. At time s the share of task t is
    n_t exp(-(s - t)^2 / 2 width^2) / sum over all tasks, with n_t examples of task t: the Gaussian
    schedule of Shanahan et al. 2021 (arXiv 2105.13327). A small width leaves one task after the
    other, a large one mixes all tasks. The stream is cut into T equally long parts, after each of
    which all tasks are tested, so that the accuracy matrix has as many rows as there are tasks. The
    learner is not told of the parts.
    """
    require(width > 0, "stream.width", "positive", width)
    scenario = benchmark.scenario
    require(scenario != "task", "benchmark.scenario", "class or domain in this `stream`", scenario)

    def arrival_times(rows: Tensor, task: int, seed: int) -> Tensor:
        noise = torch.randn(len(rows), generator=generator(seed, "arrival", task))
        return task + width * noise

    def make_stream(seed: int) -> Stream:
        bounded = benchmark.make_stream(seed)
        times = [arrival_times(rows, task, seed) for task, rows in enumerate(bounded.train_rows)]
        order = torch.cat(times).argsort(stable=True)
        rows, tasks = (field[order] for field in all_training_rows_and_tasks(bounded))
        return bounded._replace(
            train_rows=rows.tensor_split(benchmark.tasks),
            train_tasks=tasks.tensor_split(benchmark.tasks),
            fixed_order=True,
        )

    return benchmark._replace(make_stream=make_stream, boundaries="none")
