"""Eager: one replica after the other, each operation as it comes."""

from collections.abc import Sequence

import torch

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.draws import Draw
from gradalign_cli.engines.engine import CPU, Engine, one_by_one
from gradalign_cli.learner import Learner, Step, Trace
from gradalign_cli.trees import index, stack, tree_map
from gradalign_cli.vectors import autograd_gradient


def through(
    cycle: Sequence[Step], learner: Learner, draws: Draw, view: View
) -> tuple[Learner, Trace]:
    """One replica through draws [steps, ...]; its traces are [steps]."""
    found = []
    for s, draw in enumerate(zip(*(part.unbind() for part in draws), strict=True)):
        learner, trace = cycle[s % len(cycle)](learner, Draw(*draw), view)
        found.append(trace)
    return learner, stack(found)


def apart(learners: Learner, draws: Draw, views: View) -> list[tuple[Learner, Draw, View]]:
    """What each replica needs for a chunk."""
    return [
        (index(learners, r), tree_map(lambda part, r=r: part[:, r], draws), index(views, r))
        for r in range(len(learners.params))
    ]


def gathered(results: Sequence[tuple[Learner, Trace]]) -> tuple[Learner, Trace]:
    """The replicas' learners [R, ...] and traces [steps, R]."""
    learners, traces = stack(results)
    return learners, tree_map(lambda part: part.transpose(0, 1), traces)


def eager(device: torch.device = CPU) -> Engine:
    """The engine that needs nothing of a device and makes no copy of the dataset."""

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        return gathered([through(cycle, *own) for own in apart(learners, draws, views)])

    return Engine("eager", device, autograd_gradient, run, one_by_one)
