import torch

from gradalign_cli.methods.agem import agem
from tests.methods.given import align as aligned


def align(g, r):
    return aligned(agem(), g, r[None])


def test_closed_form_in_the_plane():
    g, r = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])
    assert align(g, r).tolist() == [1.0, 0.0]


def test_the_direction_is_orthogonal_to_a_reference_that_g_hurts():
    source = torch.Generator().manual_seed(0)
    for _ in range(100):
        g, r = torch.randn(2, 50, generator=source, dtype=torch.float64)
        direction = align(g, r)
        if g @ r < 0:
            assert abs(direction @ r) < 1e-12 * (direction.norm() * r.norm())
            torch.testing.assert_close(direction, g - (g @ r) / (r @ r) * r)
        else:
            assert torch.equal(direction, g)


def test_a_zero_reference_leaves_the_gradient_alone():
    g = torch.tensor([1.0, -1.0])
    assert torch.equal(align(g, torch.zeros(2)), g)
