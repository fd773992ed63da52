"""The contract of an engine: how all replicas go through the same steps, in an `Engine`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.numerics.vectors import GradientAndValueFunction
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

# (step cycle, learners [R, ...], draws [steps, R, ...], views [R, ...]) ->
# (learners [R, ...], traces [steps, R])
RunSteps = Callable[[Sequence[Step], Learner, Draw, TaskViews], tuple[Learner, Trace]]
NoteStepsBeforeResume = Callable[[Sequence[Step], Draw], None]


def do_nothing_before_resume(step_cycle: Sequence[Step], draws: Draw) -> None:
    """`Engine.note_steps_before_resume` of an engine that takes every step in the same way."""


class Engine(NamedTuple):
    """A way to take R replicas through the same steps and tests.

    name:         as in the setting `engine`.
    device:       where the tensors are.
    make_gradient_function: function (params, ...) -> (value, aux) -> its
                  `GradientAndValueFunction`; what steps take gradients with.
    run_steps:    takes the learners through the draws of a chunk of steps. Step s is taken by
                  step_cycle[s % len(step_cycle)].
    map_replicas: (function, learners, trees ...) -> the results [R, ...] of
                  function(learner, tree ...) for each replica. Every tree has a leading dimension
                  of replicas.
    note_steps_before_resume: is told of the chunks of a task that were taken before a run was
                  resumed, in place of `run_steps`, so that later ones are taken as if it had not
                  been interrupted.
    """

    name: str
    device: torch.device
    make_gradient_function: Callable[[Any], GradientAndValueFunction]
    run_steps: RunSteps
    map_replicas: Callable[..., Tensor]
    note_steps_before_resume: NoteStepsBeforeResume = do_nothing_before_resume


def map_in_loop(function: Callable[..., Tensor], *trees: Any) -> Tensor:
    """`Engine.map_replicas` as a loop: large test batches gain nothing from being batched over
    replicas."""
    replicas = range(len(trees[0].params))
    return torch.stack([function(*(tree_index(tree, r) for tree in trees)) for r in replicas])


def with_test_threads(engine: Engine, threads: int) -> Engine:
    """The engine with this number of CPU threads in `map_replicas`, because test batches are larger
    than the batches of steps."""

    def map_replicas(function: Callable[..., Tensor], *trees: Any) -> Tensor:
        step_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return engine.map_replicas(function, *trees)
        finally:
            torch.set_num_threads(step_threads)

    return engine._replace(map_replicas=map_replicas)
