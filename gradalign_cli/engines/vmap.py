"""Vmap: all replicas in one batched step, which pays for MLPs and not for convolutions."""

from collections.abc import Sequence

import torch

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.draws import Draw
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.learner import Learner, Step, Trace
from gradalign_cli.trees import index, stack
from gradalign_cli.vectors import functional_gradient


def vmap() -> Engine:
    """The engine that trades many small operations for a few large ones."""

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        batched = [torch.func.vmap(step) for step in cycle]
        traces = []
        for s in range(draws.rows.shape[0]):
            learners, trace = batched[s % len(cycle)](learners, index(draws, s), views)
            traces.append(trace)
        return learners, stack(traces)

    return Engine("vmap", functional_gradient, run, one_by_one)
