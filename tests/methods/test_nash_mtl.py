import torch

from gradalign_cli.methods.nash_mtl import bargained, nash_mtl
from tests.methods.given import align
from tests.methods.problems import problems, stacked


def test_every_objective_has_the_same_share_of_the_direction():
    for g, refs in problems():
        J = stacked(g, refs)
        K = J @ J.T
        w = bargained(K, torch.ones(len(K), dtype=torch.bool))
        assert (w > 0).all()
        shares = w * (K @ w)  # K a = 1 / a, up to one factor
        torch.testing.assert_close(shares, shares[:1].expand_as(shares), rtol=1e-6, atol=0)
        torch.testing.assert_close(align(nash_mtl(), g, refs), w @ J)


def test_the_scale_of_an_objective_does_not_turn_the_direction():
    for g, refs in problems():
        scales = torch.logspace(-1, 1, len(refs)).double()[:, None]
        first, second = align(nash_mtl(), g, refs), align(nash_mtl(), g, scales * refs)
        torch.testing.assert_close(first / first.norm(), second / second.norm())


def test_orthogonal_objectives_are_weighed_by_their_lengths():
    lengths = torch.tensor([2.0, 0.5, 1.0]).double()
    J = torch.diag(lengths)
    expected = (1 / lengths) / (1 / lengths).sum()
    torch.testing.assert_close(align(nash_mtl(), J[2], J[:2]), expected @ J)


def test_an_objective_without_a_gradient_bargains_for_nothing():
    g = torch.tensor([1.0, 2.0]).double()
    torch.testing.assert_close(align(nash_mtl(), g, 0 * g[None]), g)
    torch.testing.assert_close(align(nash_mtl(), 0 * g, 0 * g[None]), 0 * g)


def test_opposite_objectives_have_nothing_to_agree_on():
    g = torch.tensor([1.0, 2.0]).double()
    assert align(nash_mtl(), g, -3 * g[None]).norm() < 1e-3
