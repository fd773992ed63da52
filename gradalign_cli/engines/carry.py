"""Ways to take all replicas through one step, each giving what a loop over them gives."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.engines.engine import Run
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

TakeStep = Callable[[Step, Learner, Draw, View], tuple[Learner, Trace]]  # everything [R, ...]


def one_after_other(step: Step, learners: Learner, draws: Draw, views: View) -> Any:
    """A loop over the replicas."""
    replicas = range(len(learners.params))
    taken = [
        step(tree_index(learners, r), tree_index(draws, r), tree_index(views, r)) for r in replicas
    ]
    return tree_stack(taken)


@cache
def streams_beside(count: int) -> list[torch.cuda.Stream]:
    """So many streams, the same at every call: warmed up, they can be captured."""
    return [torch.cuda.Stream() for _ in range(count)]


def side_by_side(step: Step, learners: Learner, draws: Draw, views: View) -> Any:
    """A loop over the replicas, each on a stream of its own: captured, they are branches of one
    graph that a GPU runs at the same time."""
    here, taken = torch.cuda.current_stream(), []
    branches = streams_beside(len(learners.params))
    for r, branch in enumerate(branches):
        branch.wait_stream(here)
        with torch.cuda.stream(branch):
            taken.append(step(tree_index(learners, r), tree_index(draws, r), tree_index(views, r)))
    for branch in branches:
        here.wait_stream(branch)
    return tree_stack(taken)


def batched(step: Step, learners: Learner, draws: Draw, views: View) -> Any:
    """One step on tensors that hold all replicas."""
    return torch.func.vmap(step)(learners, draws, views)


def already_batched(step: Step, learners: Learner, draws: Draw, views: View) -> Any:
    """A step that takes all replicas of itself."""
    return step(learners, draws, views)


def step_by_step(carry: TakeStep) -> Run:
    """Carry learners through the steps of a chunk, one after the other."""

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        traces = []
        for s in range(len(draws.rows)):
            learners, trace = carry(cycle[s % len(cycle)], learners, tree_index(draws, s), views)
            traces.append(trace)
        return learners, tree_stack(traces)

    return run
