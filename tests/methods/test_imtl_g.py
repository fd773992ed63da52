import torch
from torchjd.aggregation import IMTLG

from gradalign_cli.methods.imtl_g import imtl_g
from tests.methods.given import align
from tests.methods.problems import jacobian, multitask_gradients


def test_the_projections_on_all_gradients_are_equal():
    for g, references in multitask_gradients():
        J = jacobian(g, references)
        projections = J @ align(imtl_g(), g, references) / J.norm(dim=1)
        torch.testing.assert_close(projections, projections[:1].expand_as(projections))


def test_the_direction_is_that_of_torchjd():
    for g, references in multitask_gradients():
        expected = IMTLG()(jacobian(g, references))
        torch.testing.assert_close(align(imtl_g(), g, references), expected, rtol=1e-5, atol=1e-6)


def test_the_projections_are_equal_where_the_weights_would_sum_to_less_than_zero():
    """C^-1 1 = (-1.25, 1.25, 1.25), and the first gradient is a tenth as long as the others."""
    cosines = torch.tensor([[1, 0.9, 0.9], [0.9, 1, 0.7], [0.9, 0.7, 1]], dtype=torch.float64)
    J = torch.linalg.cholesky(cosines) * torch.tensor([0.1, 1, 1])[:, None]
    direction = align(imtl_g(), J[-1], J[:-1])
    projections = J @ direction / J.norm(dim=1)
    torch.testing.assert_close(projections, projections[:1].expand_as(projections))
    mean = J.mean(0)
    assert not torch.allclose(direction, mean)


def test_for_gradients_of_zero_the_direction_is_zero():
    zero = torch.zeros(2).double()
    torch.testing.assert_close(align(imtl_g(), zero, zero[None]), zero)
