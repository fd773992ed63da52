import pytest
import torch

from gradalign_cli.methods.agem import agem, project
from tests.methods.given import align


def agem_direction(g, r):
    return align(agem(), g, r[None])


def test_closed_form_in_the_plane():
    g, r = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])
    assert agem_direction(g, r).tolist() == [1.0, 0.0]


def test_the_direction_is_orthogonal_to_a_reference_that_g_hurts():
    source = torch.Generator().manual_seed(0)
    for _ in range(100):
        g, r = torch.randn(2, 50, generator=source, dtype=torch.float64)
        direction = agem_direction(g, r)
        if g @ r < 0:
            assert abs(direction @ r) < 1e-12 * (direction.norm() * r.norm())
            torch.testing.assert_close(direction, g - (g @ r) / (r @ r) * r)
        else:
            assert torch.equal(direction, g)


def test_a_zero_reference_leaves_the_gradient_alone():
    g = torch.tensor([1.0, -1.0])
    assert torch.equal(agem_direction(g, torch.zeros(2)), g)


@pytest.mark.parametrize("length", [1e-19, 1e-30, 2e19, 1e30])
def test_the_length_of_the_reference_does_not_matter_however_short_or_long(length):
    direction = project(torch.tensor([1.0, 1.0]), torch.tensor([-length, 0.0]))
    assert direction.tolist() == [0.0, 1.0]
