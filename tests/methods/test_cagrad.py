import pytest
import torch
from torchjd.aggregation import CAGrad

from gradalign_cli.errors import UserError
from gradalign_cli.methods.cagrad import cagrad
from tests.methods.given import align
from tests.methods.problems import problems, stacked


@pytest.mark.parametrize("reach", [0.2, 0.5])
def test_the_direction_is_torchjds(reach):
    for g, refs in problems():
        expected = CAGrad(c=reach, norm_eps=0)(stacked(g, refs))
        torch.testing.assert_close(align(cagrad(reach), g, refs), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reach", [0.3, 0.9])
def test_no_point_within_reach_has_a_better_worst_case(reach):
    source = torch.Generator().manual_seed(0)
    for g, refs in problems(12):
        J = stacked(g, refs)
        mean = J.mean(0)
        direction = align(cagrad(reach), g, refs)
        assert (direction - mean).norm() <= reach * mean.norm() * (1 + 1e-6)
        step = torch.randn(2000, len(g), generator=source, dtype=torch.float64)
        others = torch.cat([step @ J.T @ torch.linalg.pinv(J @ J.T) @ J, step])
        others = mean + reach * mean.norm() * others / others.norm(dim=1, keepdim=True)
        assert (J @ direction).min() >= (others @ J.T).min(1).values.max() - 1e-6 * mean.norm()


def test_without_reach_it_is_the_mean():
    for g, refs in problems():
        torch.testing.assert_close(align(cagrad(0.0), g, refs), stacked(g, refs).mean(0))


def test_a_negative_reach_is_refused():
    with pytest.raises(UserError, match=r"`method.reach` must be non-negative, found -1"):
        cagrad(-1.0)
