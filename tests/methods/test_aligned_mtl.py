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
