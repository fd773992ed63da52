import torch

from gradalign_cli.methods.nash_mtl import bargaining_weights, nash_mtl
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients


def test_every_objective_has_the_same_share_of_the_direction():
    for g, references in multitask_gradients():
        J = jacobian(g, references)
        K = J @ J.T
        w = bargaining_weights(K, torch.ones(len(K), dtype=torch.bool))
        assert (w > 0).all()
        shares = w * (K @ w)  # K a = 1 / a, up to one factor
        torch.testing.assert_close(shares, shares[:1].expand_as(shares), rtol=1e-6, atol=0)
        torch.testing.assert_close(align(nash_mtl(), g, references), w @ J)


def test_the_scale_of_an_objective_does_not_turn_the_direction():
    for g, references in multitask_gradients():
        scales = torch.logspace(-1, 1, len(references)).double()[:, None]
        direction = align(nash_mtl(), g, references)
        scaled_direction = align(nash_mtl(), g, scales * references)
        torch.testing.assert_close(
            direction / direction.norm(), scaled_direction / scaled_direction.norm()
        )


def test_orthogonal_gradients_are_weighted_by_one_over_their_lengths():
    lengths = torch.tensor([2.0, 0.5, 1.0]).double()
    J = torch.diag(lengths)
    weights = (1 / lengths) / (1 / lengths).sum()
    torch.testing.assert_close(align(nash_mtl(), J[2], J[:2]), weights @ J)


def test_an_objective_with_a_gradient_of_zero_does_not_count():
    g = torch.tensor([1.0, 2.0]).double()
    torch.testing.assert_close(align(nash_mtl(), g, 0 * g[None]), g)
    torch.testing.assert_close(align(nash_mtl(), 0 * g, 0 * g[None]), 0 * g)


def test_for_opposed_gradients_the_direction_is_almost_zero():
    g = torch.tensor([1.0, 2.0]).double()
    assert align(nash_mtl(), g, -3 * g[None]).norm() < 1e-3
