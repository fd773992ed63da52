import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.trgp import (
    Scaling,
    scale_weights,
    scales_gradient,
    select_trusted_spaces,
    weights_gradient,
)
from gradalign_cli.training.replica import new_learner
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, steps_of_task, train
from tests.step.test_step import learner_after


def random_scaling(d=5, ranks=(2, 3), seed=0):
    """Spaces of orthonormal columns, padded with zeros, and random scales."""
    generator = torch.Generator().manual_seed(seed)
    spaces = torch.zeros(len(ranks), d, d).double()
    for k, rank in enumerate(ranks):
        columns = torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0]
        spaces[k, :, :rank] = columns[:, :rank]
    return Scaling(spaces, torch.randn(len(ranks), d, d, generator=generator).double())


def test_the_gradients_of_weights_and_scales_are_those_of_autograd():
    generator = torch.Generator().manual_seed(1)
    W, C = torch.randn(2, 4, 5, generator=generator).double()
    S, Q = random_scaling()
    W_leaf, Q_leaf = W.clone().requires_grad_(), Q.clone().requires_grad_()
    scaled = scale_weights(W_leaf, Scaling(S, Q_leaf))
    (scaled.sin() * C).sum().backward()
    G = scaled.detach().cos() * C
    torch.testing.assert_close(weights_gradient(G, Scaling(S, Q)), W_leaf.grad)
    torch.testing.assert_close(scales_gradient(W, G, S), Q_leaf.grad)


def test_scales_of_one_or_spaces_of_zeros_change_nothing():
    W = torch.randn(4, 5).double()
    S, Q = random_scaling()
    ones = torch.eye(5).double().expand_as(Q)
    torch.testing.assert_close(scale_weights(W, Scaling(S, ones)), W)
    torch.testing.assert_close(scale_weights(W, Scaling(0 * S, Q)), W)


def test_weights_are_scaled_inside_a_space_and_unchanged_outside():
    W = torch.randn(4, 5).double()
    S, Q = random_scaling(ranks=(2,))
    columns = S[0, :, :2]
    scaled = scale_weights(W, Scaling(S, Q))
    torch.testing.assert_close(scaled @ columns, W @ columns @ Q[0, :2, :2])
    x = torch.randn(5).double()
    outside = x - columns @ (columns.T @ x)
    torch.testing.assert_close(scaled @ outside, W @ outside)


def test_the_spaces_that_hold_enough_of_the_gradient_are_trusted():
    S, _ = random_scaling(d=6, ranks=(2, 2, 2))
    G = torch.randn(4, 2).double() @ S[1, :, :2].T + 1e-3 * torch.randn(4, 6).double()
    selected = select_trusted_spaces(G, S, 2, torch.tensor(0.9))
    assert torch.equal(selected[0], S[1])
    assert (selected[1] == 0).all()
    no_trust = torch.tensor(0.0)
    assert (select_trusted_spaces(G, S, 5, no_trust)[3:] == 0).all()  # there are only three spaces
    assert (select_trusted_spaces(G, 0 * S, 2, no_trust) == 0).all()


def test_if_no_task_is_trusted_it_is_gpm(tiny):
    methods = method("trgp", trust_threshold=1.0, thresholds=[0.8]), method("gpm", thresholds=[0.8])
    both_params = []
    for each_method in methods:
        parts = make_parts(tiny, each_method, samples=20)
        both_params.append(train(parts, make_replicas(parts)).learners.params)
    assert torch.equal(*both_params)


def test_where_old_tasks_hold_all_inputs_only_the_scales_learn_and_old_logits_stay(tiny):
    full_bases = method("trgp", trust_threshold=0.0, thresholds=[1.0], scales_lr=0.05)
    parts = make_parts(tiny, full_bases, kind="permuted")
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 1)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)

    def logits_of_task(learner, task):
        params = parts.method.test_params(
            learner.method_state, learner.params, task, parts.model.layers
        )
        rows = replica.stream.train_rows[0][:10]
        x = (parts.benchmark.images[rows] / 255).view(10, *parts.benchmark.image_shape)
        return parts.model.apply(params, params[:0], x, False).logits

    scalings = after.method_state.current_scalings
    assert all((scaling.spaces[0] != 0).any() for scaling in scalings)
    torch.testing.assert_close(
        logits_of_task(after, 0), logits_of_task(start, 0), rtol=0, atol=1e-3
    )
    assert (logits_of_task(after, 1) - logits_of_task(after, 0)).abs().max() > 0.01


def test_the_last_task_may_have_the_widest_space(tiny):
    """The stored scalings of all tasks are then as wide as that one."""
    parts = make_parts(tiny, method("trgp", thresholds=[0.5], increase=0.24), kind="permuted")
    state = train(parts, make_replicas(parts)).learners.method_state
    ranks = state.spaces[0][0].square().sum((1, 2)).round()
    assert ranks[2] > ranks[:2].max()
    ended, current = state.ended_scalings[0], state.current_scalings[0]
    assert ended.spaces.shape[2:] == current.spaces.shape[1:]


def test_a_task_chooses_whom_it_trusts_by_its_first_gradient_alone(tiny):
    parts = make_parts(tiny, method("trgp", trust_threshold=0.0, thresholds=[0.9]), kind="permuted")
    replica = make_replicas(parts)[0]
    assert new_learner(parts, replica).method_state.is_first_step == 1
    steps = list(steps_of_task(parts, replica, learner_after(parts, replica, 2), 2))
    start = steps[0][0].method_state
    states = [after.method_state for *_, after, _ in steps]
    spaces = [state.current_scalings[0].spaces for state in states]
    assert start.is_first_step == 1
    assert all(torch.equal(step_spaces, spaces[0]) for step_spaces in spaces)
    assert all(state.is_first_step == 0 for state in states)


@pytest.mark.parametrize(
    ("name", "value"), [("max_trusted_tasks", 0), ("trust_threshold", 1.5), ("scales_lr", -1.0)]
)
def test_wrong_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        method("trgp", **{name: value})
