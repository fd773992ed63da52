"""Recorded: on a CPU the operations of a step are written down once and repeated, without what
autograd, vmap and the step's own Python cost each time."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.engines.engine import Run
from gradalign_cli.engines.products import by_onednn, slow_products
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace

aten = torch.ops.aten
WORTH = 100  # steps of one kind from which a recording pays
RECORDING = Lock()  # one thread at a time


def like(tree: Any, tensors: Sequence[Tensor]) -> Any:
    """The tensors in the form of a tree."""
    left = iter(tensors)
    return tree_map(lambda _: next(left), tree)


def record(step: Step, *given: Any) -> Step:
    """The step as a list of operations, for tensors of the given shapes.

    A step has no branch on a tensor, so its operations are the same every time.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second

    found: list[Any] = []

    def on_tensors(*tensors: Tensor) -> list[Tensor]:
        found[:] = step(*like(given, tensors))
        return tree_leaves(tuple(found))

    operations = make_fx(on_tensors)(*tree_leaves(given))
    form = tuple(found)
    if slow_products():
        operations = by_onednn(operations, *tree_leaves(given))
    repeat = tidied(operations).forward

    def replay(learner: Learner, draw: Draw, view: View) -> tuple[Learner, Trace]:
        with torch.no_grad():
            tensors = repeat(*tree_leaves((learner, draw, view)))
        after: tuple[Learner, Trace] = like(form, tensors)
        return after

    return replay


def tidied(operations: GraphModule) -> GraphModule:
    """The same operations, but for those that nobody uses, that only name a tensor anew, or that
    turn back what was turned."""
    for node in operations.graph.nodes:
        if node.target in (aten.alias.default, aten.detach.default):
            node.replace_all_uses_with(node.args[0])
        if node.target == aten.t.default and node.args[0].target == aten.t.default:
            node.replace_all_uses_with(node.args[0].args[0])
    operations.graph.eliminate_dead_code()
    operations.recompile()
    return operations


def recorded(step: Step) -> Step:
    """The step, recorded once it has been taken often enough with a batch of one size."""
    taken: dict[torch.Size, int] = {}
    recordings: dict[torch.Size, Step] = {}

    def take(learner: Learner, draw: Draw, view: View) -> tuple[Learner, Trace]:
        size = draw.rows.shape
        if size not in recordings:
            taken[size] = taken.get(size, 0) + 1
            if taken[size] < WORTH:
                return step(learner, draw, view)
            with RECORDING:
                if size not in recordings:  # no other thread has made it meanwhile
                    recordings[size] = record(step, learner, draw, view)
        return recordings[size](learner, draw, view)

    return take


def by_recordings(run: Run, carried: Callable[[Step], Step] = lambda step: step) -> Run:
    """`run` with the steps of its cycle recorded, as `carried` takes them."""
    known: dict[Step, Step] = {}
    last: list[Sequence[Step]] = [()]

    def run_recorded(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        if last[0] is not cycle:  # another task
            known.clear()
            known.update({step: recorded(carried(step)) for step in cycle})
            last[0] = cycle
        return run([known[step] for step in cycle], learners, draws, views)

    return run_recorded
