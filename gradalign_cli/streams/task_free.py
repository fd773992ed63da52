"""Task-free: the mixture of tasks changes gradually and no one is told (Aljundi et al. 2019)."""

import torch

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, whole_stream
from gradalign_cli.errors import require
from gradalign_cli.numerics.generators import generator


def task_free(benchmark: Benchmark, width: float) -> Benchmark:
    """The benchmark as one stream without boundaries, for learners that are told neither the task
    of an example nor where one ends (arXiv 1812.03596).

    Every example of task t (from 0) arrives at a time drawn from a normal distribution around t
    with deviation `width`, and comes once, in the order of arrival: at time s the share of task t
    is n_t exp(-(s - t)^2 / 2 width^2) / sum over all tasks, the Gaussian schedule of Shanahan et
    al. 2021 (arXiv 2105.13327). A small width leaves one task after the other, a large one mixes
    all. For as many rows of the accuracy matrix as there are tasks, tests come where the stream is
    cut into T equally long parts; the learner does not notice.
    """
    require(width > 0, "stream.width", "positive", width)
    scenario = benchmark.scenario
    require(scenario != "task", "benchmark.scenario", "class or domain in this `stream`", scenario)

    def stream(seed: int) -> Stream:
        bounded = benchmark.make_stream(seed)
        arrival = torch.cat(
            [
                t + width * torch.randn(len(own), generator=generator(seed, "arrival", t))
                for t, own in enumerate(bounded.train_rows)
            ]
        )
        rows, owner = (field[arrival.argsort(stable=True)] for field in whole_stream(bounded))
        return bounded._replace(
            train_rows=rows.tensor_split(benchmark.tasks),
            train_tasks=owner.tensor_split(benchmark.tasks),
            fixed_order=True,
        )

    return benchmark._replace(make_stream=stream, boundaries="none")
