"""Eager: one replica after the other, each operation as it comes."""

from collections.abc import Sequence

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.draws import Draw
from gradalign_cli.engines.engine import Engine, one_by_one
from gradalign_cli.learner import Learner, Step, Trace
from gradalign_cli.trees import index, stack, tree_map
from gradalign_cli.vectors import autograd_gradient


def eager() -> Engine:
    """The engine that needs nothing of a device and makes no copy of the dataset."""

    def run(
        cycle: Sequence[Step], learners: Learner, draws: Draw, views: View
    ) -> tuple[Learner, Trace]:
        replicas = draws.rows.shape[1]
        after, traces = [], []
        for r in range(replicas):
            learner, view = index(learners, r), index(views, r)
            own = zip(*(t[:, r].unbind() for t in draws), strict=True)
            found = []
            for s, draw in enumerate(own):
                learner, trace = cycle[s % len(cycle)](learner, Draw(*draw), view)
                found.append(trace)
            after.append(learner)
            traces.append(stack(found))
        traced = stack(traces)
        return stack(after), tree_map(lambda t: t.transpose(0, 1), traced)

    return Engine("eager", autograd_gradient, run, one_by_one)
