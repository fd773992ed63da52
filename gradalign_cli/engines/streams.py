"""Streams: replicas beside each other, as branches of one captured graph or as threads of a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.engines.captured import captured
from gradalign_cli.engines.carry import side_by_side
from gradalign_cli.engines.eager import apart, gathered, through
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.engines.recorded import by_recordings
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.numerics.vectors import autograd_gradient
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace


def streams(device: torch.device = CPU) -> Engine:
    """The engine for several replicas whose single operations leave the device half idle.

    On a CPU each thread takes a whole replica through a chunk, which divides the work better than
    threads that meet in every operation.
    """
    if device.type == "cuda":
        return Engine("streams", device, autograd_gradient, captured(side_by_side), one_by_one)
    pool = ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    )

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        jobs = [pool.submit(through, cycle, *own) for own in apart(learners, draws, views)]
        return gathered([job.result() for job in jobs])

    def each(function: Callable[..., Tensor], *trees: Any) -> Tensor:
        replicas = range(len(trees[0].params))
        jobs = [pool.submit(function, *(tree_index(tree, r) for tree in trees)) for r in replicas]
        return torch.stack([job.result() for job in jobs])

    return Engine("streams", device, autograd_gradient, by_recordings(run), each)
