import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ogd import of_label, ogd
from gradalign_cli.methods.ogd_plus import ogd_plus
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.runs import make_parts, make_replicas


def ends(parts, tasks, moves):
    """The state after some tasks, at whose ends the parameters have moved."""
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    state = learner.method_state
    for task in range(tasks):
        learner = learner._replace(params=learner.params + moves[task])
        rows = replica.stream.train_rows[task]
        probe = make_probe(parts, learner, replica.stream.view, rows, task)
        state = parts.method.end_task(state, learner.params, probe)
    return learner, replica, state


def span(state):
    return state.basis.T @ state.basis


def test_while_the_weights_stay_it_is_ogd(tiny):
    for kind in ("split", "permuted"):
        states = [
            ends(make_parts(tiny, made, kind=kind), 2, (0, 0))[2]
            for made in (ogd_plus(5), ogd(5, "label"))
        ]
        torch.testing.assert_close(*map(span, states), rtol=0, atol=1e-4)


def test_old_answers_are_kept_where_the_weights_are_now(tiny):
    parts = make_parts(tiny, ogd_plus(5), kind="permuted")
    moves = torch.randn(2, sum(layer.size for layer in parts.model.layers)) * 0.3
    learner, replica, state = ends(parts, 2, moves)
    view = replica.stream.view
    for task in (0, 1):
        rows = replica.stream.train_rows[task][:5]
        probe = make_probe(parts, learner, view, rows, task)
        gradients = probe.sample_gradients(of_label, rows)
        torch.testing.assert_close(gradients @ span(state), gradients, rtol=1e-3, atol=1e-4)
    stale = ends(parts._replace(method=ogd(5, "label")), 2, moves)[2]
    probe = make_probe(parts, learner, view, rows, 0)
    first = probe.sample_gradients(of_label, replica.stream.train_rows[0][:5])
    assert (first - first @ span(stale)).norm() > 0.05 * first.norm()


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.per_task` must be positive"):
        ogd_plus(0)
