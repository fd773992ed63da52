import pytest
import torch

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.adam_nscl import adam_nscl, null_projector
from gradalign_cli.models.model import Layer
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import make_probe
from tests.methods.given import make_setup
from tests.runs import make_parts, make_replicas


def make_method(eigenvalue_factor=10.0, samples=5, strength=1.0, importance_batch_size=2):
    """Adam-NSCL that projects the head too."""
    return adam_nscl(eigenvalue_factor, samples, True, strength, importance_batch_size)


def test_before_the_first_task_has_ended_it_is_adam():
    method = make_method(10.0, 5)
    params = torch.randn(7, generator=torch.Generator().manual_seed(0))
    adam_params = params.clone().requires_grad_()
    state = method.init(make_setup(params, 2))
    adam = torch.optim.Adam([adam_params], lr=0.01)
    for seed in range(5):
        g = torch.randn(7, generator=torch.Generator().manual_seed(seed))
        adam_params.grad = g
        adam.step()
        direction, state = method.align(make_gradients(g, g[:0].view(0, 7)), state)
        params = params - 0.01 * direction
        torch.testing.assert_close(params, adam_params.detach())


def test_the_projector_keeps_the_directions_of_the_smallest_eigenvalues():
    Q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double())[0]
    covariance = Q @ torch.diag(torch.tensor([1.0, 3.0, 4.0, 6.0, 90.0]).double()) @ Q.T
    torch.testing.assert_close(null_projector(covariance, 4.5), Q[:, :3] @ Q[:, :3].T)
    torch.testing.assert_close(null_projector(covariance, 1.0), Q[:, :1] @ Q[:, :1].T)


def test_the_projector_keeps_an_exact_null_space_completely():
    Q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0]
    covariance = Q @ torch.diag(torch.tensor([0.0, 0.0, 0.0, 6.0, 90.0])) @ Q.T
    expected = Q[:, :3] @ Q[:, :3].T
    torch.testing.assert_close(null_projector(covariance, 10.0), expected, rtol=0, atol=1e-5)


def test_a_step_leaves_the_logits_of_old_examples_almost_unchanged(tiny):
    """With fewer inputs than columns there is a null space, and the whole step is in it."""
    parts = make_parts(tiny, make_method(10.0, 4))
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[0]
    probe = make_probe(parts, learner, replica.stream.view, rows, 0)
    state = parts.method.end_task(learner.method_state, learner.params, probe)
    g = torch.randn(len(learner.params), generator=torch.Generator().manual_seed(0))
    gradients = make_gradients(g, g[None])._replace(layers=parts.model.layers)
    projected, _ = parts.method.align(gradients, state)

    def logits_at(params):
        x = (parts.benchmark.images[rows[:4]] / 255).view(4, *parts.benchmark.image_shape)
        return parts.model.apply(params, params[:0], x, False).logits

    plain, _ = parts.method.align(gradients, learner.method_state)
    change, plain_change = (
        logits_at(learner.params - 0.01 * step) - logits_at(learner.params)
        for step in (projected, plain)
    )
    assert projected.norm() > 0.1 * plain.norm()
    assert change.norm() < 1e-3 * plain_change.norm()


def test_each_task_starts_with_the_moments_at_zero(tiny):
    """A head that has no gradient in the next task does not move on by what the last one left."""
    parts = make_parts(tiny, make_method())
    replica = make_replicas(parts)[0]
    learner, rows = new_learner(parts, replica), replica.stream.train_rows[0]
    probe = make_probe(parts, learner, replica.stream.view, rows, 0)
    ones, zeros = torch.ones_like(learner.params), torch.zeros_like(learner.params)
    state = learner.method_state
    for _ in range(20):
        gradients = make_gradients(ones, ones[None])._replace(layers=parts.model.layers)
        _, state = parts.method.align(gradients, state)
    state = parts.method.end_task(state, learner.params, probe)
    new_state = learner.method_state._replace(projectors=state.projectors)
    direction, _ = parts.method.align(gradients, state)
    torch.testing.assert_close(direction, parts.method.align(gradients, new_state)[0])
    for _ in range(100):
        direction, state = parts.method.align(gradients._replace(g=zeros), state)
        assert torch.equal(direction, zeros)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_penalty_goes_through_the_moments_as_a_part_of_the_loss(seed):
    layers = (Layer(3, 1, False), Layer(4, 0, False))
    method = make_method(strength=0.3)
    params, importance, centre, g = torch.randn(
        4, 7, generator=torch.Generator().manual_seed(seed)
    ).double()
    importance = importance.abs()
    state = method.init(make_setup(params, 2, layers))
    norm = state.batch_norm_penalty._replace(importance=importance[3:], penalty_centre=centre[3:])
    leaf = params.clone().requires_grad_()
    penalty = 0.3 * (importance * (leaf - centre).square())[3:].sum()
    adam = torch.optim.Adam([leaf], lr=0.01)
    (g @ leaf + penalty).backward()
    adam.step()
    gradients = make_gradients(g, g[None])._replace(layers=layers)
    direction, _ = method.align(gradients, state._replace(batch_norm_penalty=norm))
    torch.testing.assert_close(params - 0.01 * direction, leaf.detach())


@pytest.mark.parametrize(
    ("name", "value"),
    [("eigenvalue_factor", 0.5), ("samples", 0), ("importance_batch_size", 0), ("strength", -1.0)],
)
def test_numbers_out_of_their_domain_are_named(name, value):
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        make_method(**{name: value})
