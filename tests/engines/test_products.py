"""Products by oneDNN are the products."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from gradalign_cli.engines.products import by_onednn

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)


def gradients(x, weight, bias):
    """A layer's answers and what backpropagation multiplies, transposed as it comes."""
    y = torch.addmm(bias, x, weight.t())
    several = torch.stack([x, 2 * x, x - 1])
    positive = torch.relu(torch.addmm(-bias, x, weight.t()))
    batched = torch.bmm(several, weight.t().expand(3, -1, -1))
    return y, torch.relu(y), positive, y.t() @ x, y @ weight, batched


def products(function, *given):
    """What a recording by oneDNN gives, and how many products it still leaves to MKL."""
    operations = by_onednn(make_fx(function)(*given), *given)
    left = [n for n in operations.graph.nodes if n.name.startswith(("mm", "addmm", "bmm"))]
    return operations(*given), len(left)


@needs_onednn
def test_large_products_are_the_same_to_rounding():
    source = torch.Generator().manual_seed(0)
    given = [torch.randn(*size, generator=source) for size in ((96, 130), (110, 130), (110,))]
    found, left = products(gradients, *given)
    assert left == 0
    for ours, theirs in zip(found, gradients(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_small_and_float64_products_stay_as_they_are():
    small = [torch.ones(4, 5), torch.ones(3, 5), torch.ones(3)]
    wide = [torch.ones(96, 130).double(), torch.ones(110, 130).double(), torch.ones(110).double()]
    for given in (small, wide):
        found, left = products(gradients, *given)
        assert left == 5
        for ours, theirs in zip(found, gradients(*given), strict=True):
            assert torch.equal(ours, theirs)
