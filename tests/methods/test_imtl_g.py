import torch
from torchjd.aggregation import IMTLG

from gradalign_cli.methods.imtl_g import imtl_g
from tests.methods.given import align
from tests.methods.problems import problems, stacked


def test_the_projections_on_all_gradients_are_the_same():
    for g, refs in problems():
        J = stacked(g, refs)
        projections = J @ align(imtl_g(), g, refs) / J.norm(dim=1)
        torch.testing.assert_close(projections, projections[:1].expand_as(projections))


def test_the_direction_is_torchjds():
    for g, refs in problems():
        expected = IMTLG()(stacked(g, refs))
        torch.testing.assert_close(align(imtl_g(), g, refs), expected, rtol=1e-5, atol=1e-6)


def test_where_the_weights_would_sum_to_nothing_the_mean_is_taken():
    g = torch.tensor([1.0, 2.0]).double()
    torch.testing.assert_close(align(imtl_g(), 0 * g, 0 * g[None]), 0 * g)
