"""The beginning of a task: each replica's method looks at the examples that will come."""

from collections.abc import Sequence

from gradalign_cli.methods.method import unchanged_state_and_params
from gradalign_cli.numerics.devices import default_device, to_device
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.task_end import make_probe, task_rows


def begin_task(parts: Parts, replicas: Sequence[Replica], learners: Learner, task: int) -> Learner:
    """The learners [R, ...] with which task number `task` begins. Where the stream tells no
    boundaries, no method is told that a task begins."""
    if (
        parts.benchmark.boundaries == "none"
        or parts.method.begin_task is unchanged_state_and_params
    ):
        return learners
    device = learners.params.device
    started = []
    for number, replica in enumerate(replicas):
        learner = tree_index(learners, number)
        rows = task_rows(replica, task).to(device)
        view = to_device(replica.stream.view, device)
        with default_device(device):
            probe = make_probe(parts, learner, view, rows, task)
            state, params = replica.method.begin_task(learner.method_state, learner.params, probe)
        started.append(learner._replace(params=params, method_state=state))
    return tree_stack(pad_to_common_shapes(started))
