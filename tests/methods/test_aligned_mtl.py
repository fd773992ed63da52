import pytest
import torch
from torchjd.aggregation import AlignedMTL

from gradalign_cli.methods.aligned_mtl import aligned_mtl
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients


def test_the_direction_is_that_of_torchjd():
    for g, references in multitask_gradients():
        expected = AlignedMTL()(jacobian(g, references))
        torch.testing.assert_close(
            align(aligned_mtl(), g, references), expected, rtol=1e-5, atol=1e-6
        )


def test_orthogonal_gradients_of_equal_length_are_averaged():
    J = 3 * torch.eye(3).double()
    torch.testing.assert_close(align(aligned_mtl(), J[2], J[:2]), J.mean(0))


def test_a_gradient_that_is_the_sum_of_others_in_float32_adds_no_direction():
    """Its rounding must not count as the weakest direction, on whose scale the result is."""
    A = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    J = torch.stack([A[0], A[1], A[0] + A[1]])
    U, S, V = torch.linalg.svd(J.double(), full_matrices=False)
    expected = (S[1] * U[:, :2] @ V[:2]).mean(0)
    assert S[2] < 1e-5 * S[1]
    torch.testing.assert_close(
        align(aligned_mtl(), J[2], J[:2]).double(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("length", [1e-6, 1e-9, 1e-12])
def test_a_gradient_however_short_sets_the_scale_in_any_order(length, order):
    """The direction for J is least * U V' u of its singular value decomposition; U and V of a J of
    such lengths are those of the limit: the short row, off the plane of the two long ones."""
    g = torch.tensor([-1.0, 1.0, 0.5], dtype=torch.float64)
    long = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    short = length * torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    direction = align(aligned_mtl(), g, torch.stack([long, short])[order])
    normal = torch.linalg.cross(long, g)
    normal = normal / normal.norm() * torch.sign(normal @ short)
    least = abs(normal @ short)
    U, _, V = torch.linalg.svd(torch.stack([long, g]), full_matrices=False)
    in_plane = V.T @ (U.T @ torch.full((2,), 1 / 3, dtype=torch.float64))
    expected = least * (in_plane + normal / 3)
    torch.testing.assert_close(direction, expected, rtol=1e-5, atol=0)
