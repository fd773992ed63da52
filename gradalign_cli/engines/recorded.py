"""Recorded steps: on a CPU the operations of a step are recorded once, by torch.fx, and repeated
without the costs of autograd, vmap and the step's own Python. captured.py does something similar on
a GPU.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.engine import RunSteps
from gradalign_cli.engines.products import mkl_is_slow, use_onednn
from gradalign_cli.numerics.recording import record
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import LossTrace, Trace

aten = torch.ops.aten
MIN_CALLS_TO_RECORD = 100  # with one batch size; for fewer a recording does not pay
RECORDING_LOCK = Lock()  # one thread records at a time


def unflatten_like(tree: Any, tensors: Sequence[Tensor]) -> Any:
    """A tree built like `tree` with these tensors, in order."""
    leaves = iter(tensors)
    return tree_map(lambda _: next(leaves), tree)


def record_operations(step: Step, learner: Learner, draw: Draw, view: TaskViews) -> Step:
    """The step as a list of operations, for a learner, draw and view of these shapes.

    A step has no branch on a tensor, so its operations are the same every time.
    """
    inputs = learner, draw, view
    outputs: list[Any] = []

    def step_on_leaves(*leaves: Tensor) -> list[Tensor]:
        outputs[:] = step(*unflatten_like(inputs, leaves))
        return tree_leaves(tuple(outputs))

    operations = record(step_on_leaves, *tree_leaves(inputs))
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


def with_recorded_operations(step: Step) -> Step:
    """The step, which records itself when it is first taken with a batch size and repeats the
    recording from then on."""
    recordings: dict[torch.Size, Step] = {}  # by the shape of Draw.rows

    def take_step(
        learner: Learner, draw: Draw, view: TaskViews
    ) -> tuple[Learner, Trace | LossTrace]:
        shape = draw.rows.shape
        if shape not in recordings:
            with RECORDING_LOCK:
                if shape not in recordings:  # another thread may have recorded it meanwhile
                    recordings[shape] = record_operations(step, learner, draw, view)
        return recordings[shape](learner, draw, view)

    return take_step


class RecordedRun:
    """`Engine.run_steps` with recorded step functions.

    Which step is the first to be recorded follows from the steps of the task before it alone, so
    that a run that is resumed repeats the same recordings at the same steps.
    """

    def __init__(
        self,
        run_steps: RunSteps,
        vmap_replicas: bool = False,
        min_calls_to_record: int | None = None,
    ) -> None:
        """run_steps: what takes the steps;  vmap_replicas: whether a step takes all replicas at
        once, by torch.func.vmap;  min_calls_to_record: with one batch size, from which on they are
        recorded; None: MIN_CALLS_TO_RECORD."""
        self.run_steps, self.vmap_replicas = run_steps, vmap_replicas
        self.min_calls_to_record = min_calls_to_record
        self.pairs: dict[Step, tuple[Step, Step]] = {}  # of the task: as they are, and recorded
        self.calls: dict[tuple[Step, torch.Size], int] = {}  # with a batch size, in the task

    def __call__(
        self, step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
    ) -> tuple[Learner, Trace]:
        """Take the learners through a chunk of steps."""
        return self.run_steps(self.chosen_steps(step_cycle, draws), learners, draws, views)

    def note_steps_before_resume(self, step_cycle: Sequence[Step], draws: Draw) -> None:
        """Count a chunk of steps that were taken before this process began."""
        self.chosen_steps(step_cycle, draws)

    def chosen_steps(self, step_cycle: Sequence[Step], draws: Draw) -> list[Step]:
        """For each step of a chunk its function, recorded where it comes for at least the
        `min_calls_to_record`th time with its batch size."""
        if self.pairs.keys() != set(step_cycle):  # a new task
            self.calls.clear()
            transformed = {s: torch.func.vmap(s) if self.vmap_replicas else s for s in step_cycle}
            self.pairs = {s: (t, with_recorded_operations(t)) for s, t in transformed.items()}
        steps, replicas, *batch = draws.rows.shape
        first_recorded, chosen = self.min_calls_to_record or MIN_CALLS_TO_RECORD, []
        for number in range(steps):
            step = step_cycle[number % len(step_cycle)]
            key = step, torch.Size(batch)
            self.calls[key] = self.calls.get(key, 0) + (1 if self.vmap_replicas else replicas)
            chosen.append(self.pairs[step][self.calls[key] >= first_recorded])
        return chosen
