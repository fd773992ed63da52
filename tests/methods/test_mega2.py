import math

import torch

from gradalign_cli.methods.mega2 import mega2
from tests.methods.given import align


def cases():
    source = torch.Generator().manual_seed(0)
    for trial in range(60):
        g, r = torch.randn(2, 2 + trial % 7, generator=source, dtype=torch.float64)
        losses = torch.rand(2, generator=source, dtype=torch.float64) * 3
        yield g, r, float(losses[0]), float(losses[1])


def test_the_angle_is_the_best_of_all_angles_up_to_a_right_one():
    for g, r, loss, ref_loss in cases():
        direction = align(mega2(), g, r[None], loss=loss, ref_losses=[ref_loss])
        torch.testing.assert_close(direction.norm(), g.norm())
        between = torch.acos(g @ r / (g.norm() * r.norm()))
        angle = torch.acos((g @ direction / g.norm() ** 2).clamp(-1, 1))

        def gain(t, between=between, loss=loss, ref_loss=ref_loss):
            return loss * torch.cos(t) + ref_loss * torch.cos(between - t)

        grid = torch.linspace(0, math.pi / 2, 20001, dtype=torch.float64)
        assert gain(angle) >= gain(grid).max() - 1e-6
        assert angle <= math.pi / 2 + 1e-6


def test_within_a_right_angle_it_is_the_sum_of_unit_vectors_weighed_by_the_losses():
    for g, r, loss, ref_loss in cases():
        mixed = loss * g / g.norm() + ref_loss * r / r.norm()
        if g @ mixed > 0:
            expected = g.norm() * mixed / mixed.norm()
            direction = align(mega2(), g, r[None], loss=loss, ref_losses=[ref_loss])
            torch.testing.assert_close(direction, expected)


def test_where_there_is_no_plane_or_no_memory_the_gradient_is_kept():
    g = torch.tensor([1.0, 2.0])
    assert torch.equal(align(mega2(), g, -g[None]), g)
    assert torch.equal(align(mega2(), g, 0 * g[None], seen=torch.tensor([False])), g)


def test_in_the_plane_with_equal_losses_it_turns_half_way():
    g, r = torch.tensor([1.0, 0.0]).double(), torch.tensor([[0.0, 3.0]]).double()
    expected = torch.full((2,), math.sqrt(0.5)).double()
    torch.testing.assert_close(align(mega2(), g, r), expected)
