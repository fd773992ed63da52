import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.trgp import Trust, scales_gradient, shift, trusted, unshift
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def random_trust(d=5, ranks=(2, 3), seed=0):
    """Orthonormal columns, padded with zeros, and random scales."""
    source = torch.Generator().manual_seed(seed)
    spaces = torch.zeros(len(ranks), d, d).double()
    for k, rank in enumerate(ranks):
        columns = torch.linalg.qr(torch.randn(d, d, generator=source).double())[0]
        spaces[k, :, :rank] = columns[:, :rank]
    return Trust(spaces, torch.randn(len(ranks), d, d, generator=source).double())


def test_gradients_of_weights_and_scales_are_those_of_autograd():
    source = torch.Generator().manual_seed(1)
    W, C = torch.randn(2, 4, 5, generator=source).double()
    S, Q = random_trust()
    own, scales = W.clone().requires_grad_(), Q.clone().requires_grad_()
    shifted = shift(own, Trust(S, scales))
    (shifted.sin() * C).sum().backward()
    G = shifted.detach().cos() * C
    torch.testing.assert_close(unshift(G, Trust(S, Q)), own.grad)
    torch.testing.assert_close(scales_gradient(W, G, S), scales.grad)


def test_scales_of_one_and_tasks_without_trust_change_nothing():
    W = torch.randn(4, 5).double()
    S, Q = random_trust()
    torch.testing.assert_close(shift(W, Trust(S, torch.eye(5).double().expand_as(Q))), W)
    torch.testing.assert_close(shift(W, Trust(0 * S, Q)), W)


def test_inside_a_space_old_weights_are_scaled_and_outside_they_stay():
    W = torch.randn(4, 5).double()
    S, Q = random_trust(ranks=(2,))
    columns = S[0, :, :2]
    new = shift(W, Trust(S, Q))
    torch.testing.assert_close(new @ columns, W @ columns @ Q[0, :2, :2])
    x = torch.randn(5).double()
    outside = x - columns @ (columns.T @ x)
    torch.testing.assert_close(new @ outside, W @ outside)


def test_tasks_are_trusted_by_the_share_of_the_gradient_that_they_hold():
    S, _ = random_trust(d=6, ranks=(2, 2, 2))
    G = torch.randn(4, 2).double() @ S[1, :, :2].T + 1e-3 * torch.randn(4, 6).double()
    found = trusted(G, S, 2, torch.tensor(0.9))
    assert torch.equal(found[0], S[1])
    assert (found[1] == 0).all()
    assert (trusted(G, S, 5, torch.tensor(0.0))[3:] == 0).all()  # there are but three
    assert (trusted(G, 0 * S, 2, torch.tensor(0.0)) == 0).all()


def test_without_trust_it_is_gpm(tiny):
    made = method("trgp", trust=1.0, thresholds=[0.8]), method("gpm", thresholds=[0.8])
    found, expected = (
        train(parts, make_replicas(parts)).learners.params
        for parts in (make_parts(tiny, m, samples=20) for m in made)
    )
    assert torch.equal(found, expected)


def test_where_old_tasks_hold_all_inputs_only_the_scales_learn_and_old_answers_stay(tiny):
    full = method("trgp", trust=0.0, thresholds=[1.0], step=0.05)
    parts = make_parts(tiny, full, kind="permuted")
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 1)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)

    def answers(learner, task):
        params = full.tested(learner.method_state, learner.params, task, parts.model.layers)
        rows = replica.stream.train_rows[0][:10]
        x = (parts.benchmark.images[rows] / 255).view(10, *parts.benchmark.image_shape)
        return parts.model.apply(params, params[:0], x, False).logits

    assert all((trust.spaces[0] != 0).any() for trust in after.method_state.now)
    torch.testing.assert_close(answers(after, 0), answers(start, 0), rtol=0, atol=1e-3)
    assert (answers(after, 1) - answers(after, 0)).abs().max() > 0.01


def test_a_last_task_may_have_the_widest_space(tiny):
    """Each task is tested with what it has learned, in a state that is as wide as the widest."""
    parts = make_parts(tiny, method("trgp", thresholds=[0.5], increase=0.24), kind="permuted")
    state = train(parts, make_replicas(parts)).learners.method_state
    ranks = state.spaces[0][0].square().sum((1, 2)).round()
    assert ranks[2] > ranks[:2].max()
    assert state.learned[0].spaces.shape[2:] == state.now[0].spaces.shape[1:]


def test_a_task_trusts_by_its_first_gradient_alone(tiny):
    made = method("trgp", trust=0.0, thresholds=[0.9])
    parts = make_parts(tiny, made, kind="permuted")
    replica = make_replicas(parts)[0]
    fresh = new_learner(parts, replica)
    assert fresh.method_state.fresh == 1
    steps = list(steps_of_task(parts, replica, learner_after(parts, replica, 2), 2))
    chosen = [after.method_state.now[0].spaces for *_, after, _ in steps]
    assert steps[0][0].method_state.fresh == 1
    assert all(torch.equal(first, chosen[0]) for first in chosen)
    assert all(after.method_state.fresh == 0 for *_, after, _ in steps)


@pytest.mark.parametrize(("name", "value"), [("tasks", 0), ("trust", 1.5), ("step", -1.0)])
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        method("trgp", **{name: value})
