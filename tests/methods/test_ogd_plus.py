import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ogd import ogd, target_logit_of_single_example
from gradalign_cli.methods.ogd_plus import ogd_plus
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas


def end_tasks(parts, changes):
    """The learner, the replica and the method's state after the first tasks, in each of which the
    parameters change by one of `changes` [n, P]."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    state = learner.method_state
    for task, change in enumerate(changes):
        learner = learner._replace(params=learner.params + change)
        rows = replica.stream.train_rows[task]
        probe = make_probe(parts, learner, replica.stream.view, rows, task)
        state = parts.method.end_task(state, learner.params, probe)
    return learner, replica, state


def span_projector(state):
    """The projector [P, P] on the span of the basis."""
    return state.basis.T @ state.basis


@pytest.mark.parametrize("kind", ["split", "permuted"])
def test_while_the_weights_do_not_change_it_is_ogd(kind, tiny):
    projectors = []
    for method in (ogd_plus(5), ogd(5, "label")):
        _, _, state = end_tasks(make_parts(tiny, method, kind=kind), (0, 0))
        projectors.append(span_projector(state))
    torch.testing.assert_close(*projectors, rtol=0, atol=1e-4)


def test_the_stored_gradients_of_all_tasks_are_those_at_the_current_weights(tiny):
    parts = make_parts(tiny, ogd_plus(5), kind="permuted")
    changes = torch.randn(2, sum(layer.size for layer in parts.model.layers)) * 0.3
    learner, replica, state = end_tasks(parts, changes)
    task_gradients = []
    for task in (0, 1):
        rows = replica.stream.train_rows[task][:5]
        probe = make_probe(parts, learner, replica.stream.view, rows, task)
        task_gradients.append(probe.sample_gradients(target_logit_of_single_example, rows))
    for gradients in task_gradients:
        projected = gradients @ span_projector(state)
        torch.testing.assert_close(projected, gradients, rtol=1e-3, atol=1e-4)
    # OGD's stored gradients of the first task are those at earlier weights
    _, _, ogd_state = end_tasks(parts._replace(method=ogd(5, "label")), changes)
    gradients = task_gradients[0]
    remainder = gradients - gradients @ span_projector(ogd_state)
    assert remainder.norm() > 0.05 * gradients.norm()


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.gradients_per_task` must be positive"):
        ogd_plus(0)
