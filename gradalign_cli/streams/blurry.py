"""Blurry boundaries: a share of every task comes in the parts of the others (Bang et al. 2021)."""

import math

import torch

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, whole_stream
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator


def blurry(benchmark: Benchmark, share: float) -> Benchmark:
    """The benchmark with a part for each task that `share` of the task's examples are not in.

    Of the n examples of task t, share * n (rounded down) are drawn from the seed and dealt out, one
    by one, to the parts of tasks t + 1, t + 2, ..., beginning again with task 1 and leaving out t;
    the rest comes in part t. So every example still comes once, and where tasks are equally large
    all parts keep their size and have exactly that share of others' examples: with M = 100 share
    this is blurry-M of Rainbow Memory (arXiv 2103.17230). 0 is sharp; 1 - 1 / T, for T
    tasks, makes all parts alike.

    Every example is shown as its own task shows it. An earlier task is one whose part is over. When
    a part ends, methods and buffers are told so, and look at what came of its task in it.
    """
    tasks = benchmark.tasks
    require(0 <= share <= 1 - 1 / tasks, "stream.share", f"in [0, 1 - 1 / {tasks}]", share)

    def places(rows: torch.Tensor, task: int, seed: int) -> torch.Tensor:
        """The part [n] that each of a task's rows [n] comes in."""
        count = math.floor(share * len(rows) + 1e-9)  # 0.29 * 100 is a little less than 29
        drawn = torch.randperm(len(rows), generator=generator(seed, "blurry", task))[:count]
        away = 1 + torch.arange(count) % max(tasks - 1, 1)
        return torch.full_like(rows, task).index_copy(0, drawn, (task + away) % tasks)

    def stream(seed: int) -> Stream:
        sharp = benchmark.make_stream(seed)
        rows, owner = whole_stream(sharp)
        place = torch.cat([places(own, t, seed) for t, own in enumerate(sharp.train_rows)])
        parts = [place == number for number in range(tasks)]
        train, owners = (tuple(field[part] for part in parts) for field in (rows, owner))
        return sharp._replace(train_rows=train, train_tasks=owners)

    return benchmark._replace(make_stream=stream, boundaries="blurry" if share else "sharp")
