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
