import math

import torch

from gradalign_cli.methods.mega2 import mega2
from tests.methods.given import align


def gradients_and_losses():
    """Yields random g [P], r [P], loss and reference loss."""
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        g, r = torch.randn(2, 2 + number % 7, generator=generator, dtype=torch.float64)
        losses = torch.rand(2, generator=generator, dtype=torch.float64) * 3
        yield g, r, float(losses[0]), float(losses[1])


def test_no_angle_up_to_a_right_one_has_a_larger_gain():
    for g, r, loss, reference_loss in gradients_and_losses():
        direction = align(mega2(), g, r[None], loss=loss, reference_losses=[reference_loss])
        torch.testing.assert_close(direction.norm(), g.norm())
        angle_of_r = torch.acos(g @ r / (g.norm() * r.norm()))
        angle = torch.acos((g @ direction / g.norm() ** 2).clamp(-1, 1))
        angles = torch.cat([angle[None], torch.linspace(0, math.pi / 2, 20001).double()])
        gains = loss * torch.cos(angles) + reference_loss * torch.cos(angle_of_r - angles)
        assert gains[0] >= gains.max() - 1e-6
        assert angle <= math.pi / 2 + 1e-6


def test_within_a_right_angle_it_is_the_sum_of_unit_vectors_weighted_by_the_losses():
    for g, r, loss, reference_loss in gradients_and_losses():
        weighted_sum = loss * g / g.norm() + reference_loss * r / r.norm()
        if g @ weighted_sum > 0:
            expected = g.norm() * weighted_sum / weighted_sum.norm()
            direction = align(mega2(), g, r[None], loss=loss, reference_losses=[reference_loss])
            torch.testing.assert_close(direction, expected)


def test_for_collinear_gradients_or_an_empty_memory_the_direction_is_the_gradient():
    g = torch.tensor([1.0, 2.0])
    assert torch.equal(align(mega2(), g, -g[None]), g)
    assert torch.equal(align(mega2(), g, 0 * g[None], available=torch.tensor([False])), g)


def test_orthogonal_gradients_with_equal_losses_give_half_a_right_angle():
    g, references = torch.tensor([1.0, 0.0]).double(), torch.tensor([[0.0, 3.0]]).double()
    expected = torch.full((2,), math.sqrt(0.5)).double()
    torch.testing.assert_close(align(mega2(), g, references), expected)
