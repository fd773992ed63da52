"""Recorded steps: on a CPU the operations of a step are recorded once, by torch.fx, and repeated
without the costs of autograd, vmap and the step's own Python. captured.py does something similar on
a GPU.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.engine import RunSteps
from gradalign_cli.engines.products import mkl_is_slow, use_onednn
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import LossTrace, Trace

aten = torch.ops.aten
MIN_STEPS_TO_RECORD = 100  # with one batch size; for fewer a recording does not pay
RECORDING_LOCK = Lock()  # one thread records at a time


def unflatten_like(tree: Any, tensors: Sequence[Tensor]) -> Any:
    """A tree built like `tree` with these tensors, in order."""
    leaves = iter(tensors)
    return tree_map(lambda _: next(leaves), tree)


def record_operations(step: Step, learner: Learner, draw: Draw, view: TaskViews) -> Step:
    """The step as a list of operations, for a learner, draw and view of these shapes.

    A step has no branch on a tensor, so its operations are the same every time.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # importing it takes a second

    inputs = learner, draw, view
    outputs: list[Any] = []

    def step_on_leaves(*leaves: Tensor) -> list[Tensor]:
        outputs[:] = step(*unflatten_like(inputs, leaves))
        return tree_leaves(tuple(outputs))

    operations = make_fx(step_on_leaves)(*tree_leaves(inputs))
    output_tree = tuple(outputs)
    if mkl_is_slow():
        operations = use_onednn(operations, *tree_leaves(inputs))
    repeat = simplify(operations).forward

    def repeat_step(
        learner: Learner, draw: Draw, view: TaskViews
    ) -> tuple[Learner, Trace | LossTrace]:
        with torch.no_grad():
            leaves = repeat(*tree_leaves((learner, draw, view)))
        result: tuple[Learner, Trace | LossTrace] = unflatten_like(output_tree, leaves)
        return result

    return repeat_step


def simplify(operations: GraphModule) -> GraphModule:
    """Remove, in place, operations whose result is not used, aliases of tensors and pairs of
    transpositions that cancel."""
    for node in operations.graph.nodes:
        if node.target in (aten.alias.default, aten.detach.default):
            node.replace_all_uses_with(node.args[0])
        if node.target == aten.t.default and node.args[0].target == aten.t.default:
            node.replace_all_uses_with(node.args[0].args[0])
    operations.graph.eliminate_dead_code()
    operations.recompile()
    return operations


def with_recorded_operations(step: Step, min_steps: int | None = None) -> Step:
    """The step, which records itself at step number `min_steps` with one batch size, by default
    MIN_STEPS_TO_RECORD, and repeats the recording from then on."""
    steps_taken: dict[torch.Size, int] = {}  # by the shape of Draw.rows, as are the recordings
    recordings: dict[torch.Size, Step] = {}

    def take_step(
        learner: Learner, draw: Draw, view: TaskViews
    ) -> tuple[Learner, Trace | LossTrace]:
        shape = draw.rows.shape
        if shape not in recordings:
            steps_taken[shape] = steps_taken.get(shape, 0) + 1
            if steps_taken[shape] < (min_steps or MIN_STEPS_TO_RECORD):
                return step(learner, draw, view)
            with RECORDING_LOCK:
                if shape not in recordings:  # another thread may have recorded it meanwhile
                    recordings[shape] = record_operations(step, learner, draw, view)
        return recordings[shape](learner, draw, view)

    return take_step


def make_recorded_run(
    run_steps: RunSteps,
    transform_step: Callable[[Step], Step] = lambda step: step,
    min_steps: int | None = None,
) -> RunSteps:
    """`run_steps` with recorded step functions.

    transform_step: applied to every step function before it is recorded, such as torch.func.vmap.
    min_steps: of one batch size, after which a step is recorded; None: MIN_STEPS_TO_RECORD.
    """
    recorded_steps: dict[Step, Step] = {}

    def run_recorded_steps(
        step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        if recorded_steps.keys() != set(step_cycle):  # a new task
            recorded_steps.clear()
            recorded_steps.update(
                {s: with_recorded_operations(transform_step(s), min_steps) for s in step_cycle}
            )
        return run_steps([recorded_steps[step] for step in step_cycle], learners, draws, views)

    return run_recorded_steps
