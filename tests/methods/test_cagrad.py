import pytest
import torch
from torchjd.aggregation import CAGrad

from gradalign_cli.errors import UserError
from gradalign_cli.methods.cagrad import cagrad
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients


@pytest.mark.parametrize("reach", [0.2, 0.5])
def test_the_direction_is_that_of_torchjd(reach):
    for g, references in multitask_gradients():
        expected = CAGrad(c=reach, norm_eps=0)(jacobian(g, references))
        torch.testing.assert_close(
            align(cagrad(reach), g, references), expected, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("reach", [0.3, 0.9])
def test_no_point_within_reach_has_a_better_worst_case(reach):
    source = torch.Generator().manual_seed(0)
    for g, references in multitask_gradients(12):
        J = jacobian(g, references)
        mean = J.mean(0)
        direction = align(cagrad(reach), g, references)
        assert (direction - mean).norm() <= reach * mean.norm() * (1 + 1e-6)
        steps = torch.randn(2000, len(g), generator=source, dtype=torch.float64)
        steps = torch.cat([steps @ J.T @ torch.linalg.pinv(J @ J.T) @ J, steps])
        points = mean + reach * mean.norm() * steps / steps.norm(dim=1, keepdim=True)
        assert (J @ direction).min() >= (points @ J.T).min(1).values.max() - 1e-6 * mean.norm()


def test_with_reach_zero_it_is_the_mean():
    for g, references in multitask_gradients():
        torch.testing.assert_close(
            align(cagrad(0.0), g, references), jacobian(g, references).mean(0)
        )


def test_a_negative_reach_is_refused():
    with pytest.raises(UserError, match=r"`method.c` must be non-negative, found -1"):
        cagrad(-1.0)


@pytest.mark.parametrize("a", [1.0, 1e-3, 1e-6])
def test_short_gradients_count_in_the_worst_case(a):
    """The direction lies on the ball around the mean, as far along the conflicting gradient."""
    J = torch.tensor([[-a, a / 10], [1, 0]], dtype=torch.float64)
    direction = align(cagrad(0.5), J[1], J[:1])
    g0 = J.mean(0)
    along = J[0] / J[0].norm()
    torch.testing.assert_close((direction - g0).norm(), 0.5 * g0.norm())
    if a == 1e-6:
        torch.testing.assert_close(direction, g0 + 0.5 * g0.norm() * along, rtol=1e-4, atol=1e-6)
