"""What an engine is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.numerics.vectors import GradientFunction
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

Run = Callable[[Sequence[Step], Learner, Draw, View], tuple[Learner, Trace]]


class Engine(NamedTuple):
    """device: where the tensors are;  gradient: how the step takes gradients;  run: carries
    learners [R, ...] through draws [steps, R, ...], taking the given step functions in turn, and
    returns them with the traces [steps, R];  each: applies a function of (one learner, one view,
    other tensors of one replica) to all replicas.
    """

    name: str
    device: torch.device
    gradient: Callable[[Any], GradientFunction]
    run: Run
    each: Callable[..., Tensor]


def one_by_one(function: Callable[..., Tensor], *trees: Any) -> Tensor:
    """A function of one replica's trees for all replicas; large batches gain nothing together."""
    replicas = len(trees[0].params)
    return torch.stack(
        [function(*(tree_index(tree, r) for tree in trees)) for r in range(replicas)]
    )


def testing_with(engine: Engine, threads: int) -> Engine:
    """The engine with so many CPU threads in its tests, whose batches are larger than a step's."""

    def each(function: Callable[..., Tensor], *trees: Any) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return engine.each(function, *trees)
        finally:
            torch.set_num_threads(before)

    return engine._replace(each=each)
