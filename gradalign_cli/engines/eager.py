"""Eager: one replica after the other, by plain PyTorch with nothing captured or recorded."""

from collections.abc import Sequence

import torch

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.engine import Engine, map_in_loop
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.trees import tree_index, tree_map, tree_stack
from gradalign_cli.numerics.vectors import autograd_gradient_and_value
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace, stack_traces


def run_replica(
    step_cycle: Sequence[Step], learner: Learner, draws: Draw, view: TaskViews
) -> tuple[Learner, Trace]:
    """Take one replica through draws [steps, ...]; returns its learner and its traces [steps]."""
    traces = []
    for s, draw in enumerate(zip(*(field.unbind() for field in draws), strict=True)):
        learner, trace = step_cycle[s % len(step_cycle)](learner, Draw(*draw), view)
        traces.append(trace)
    return learner, stack_traces(traces)


def split_replicas(
    learners: Learner, draws: Draw, views: TaskViews
) -> list[tuple[Learner, Draw, TaskViews]]:
    """For each replica its learner, draws [steps, ...] and view, from learners [R, ...], draws
    [steps, R, ...] and views [R, ...]."""
    return [
        (
            tree_index(learners, r),
            tree_map(lambda field, r=r: field[:, r], draws),
            tree_index(views, r),
        )
        for r in range(len(learners.params))
    ]


def stack_replicas(results: Sequence[tuple[Learner, Trace]]) -> tuple[Learner, Trace]:
    """Learners [R, ...] and traces [steps, R] from the results of `run_replica`."""
    learners, traces = tree_stack(results)
    return learners, tree_map(lambda field: field.transpose(0, 1), traces)


def eager(device: torch.device = CPU) -> Engine:
    """The engine without a capture or a recording, for any device."""

    def run_steps(
        step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        replicas = split_replicas(learners, draws, views)
        return stack_replicas([run_replica(step_cycle, *replica) for replica in replicas])

    return Engine("eager", device, autograd_gradient_and_value, run_steps, map_in_loop)
