"""Eager: one replica after the other, each operation as it comes."""

from collections.abc import Sequence

import torch

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.trees import tree_index, tree_map, tree_stack
from gradalign_cli.numerics.vectors import autograd_gradient
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace


def through(
    cycle: Sequence[Step], learner: Learner, draws: Draw, view: View
) -> tuple[Learner, Trace]:
    """One replica through draws [steps, ...]; its traces are [steps]."""
    found = []
    for s, draw in enumerate(zip(*(part.unbind() for part in draws), strict=True)):
        learner, trace = cycle[s % len(cycle)](learner, Draw(*draw), view)
        found.append(trace)
    return learner, tree_stack(found)


def apart(learners: Learner, draws: Draw, views: View) -> list[tuple[Learner, Draw, View]]:
    """What each replica needs for a chunk."""
    return [
        (
            tree_index(learners, r),
            tree_map(lambda part, r=r: part[:, r], draws),
            tree_index(views, r),
        )
        for r in range(len(learners.params))
    ]


def gathered(results: Sequence[tuple[Learner, Trace]]) -> tuple[Learner, Trace]:
    """The replicas' learners [R, ...] and traces [steps, R]."""
    learners, traces = tree_stack(results)
    return learners, tree_map(lambda part: part.transpose(0, 1), traces)


def eager(device: torch.device = CPU) -> Engine:
    """The engine that needs nothing of a device and makes no copy of the dataset."""

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        return gathered([through(cycle, *own) for own in apart(learners, draws, views)])

    return Engine("eager", device, autograd_gradient, run, one_by_one)
