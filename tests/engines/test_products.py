"""Products by oneDNN are those of MKL, to rounding."""

import pytest
import torch

from gradalign_cli.engines.products import use_onednn
from gradalign_cli.numerics.recording import record

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)


def layer_products(x, weight, bias):
    """The products of a layer's forward and backward pass, in the transpositions that occur."""
    y = torch.addmm(bias, x, weight.t())
    inputs = torch.stack([x, 2 * x, x - 1])
    positive = torch.relu(torch.addmm(-bias, x, weight.t()))
    batched = torch.bmm(inputs, weight.t().expand(3, -1, -1))
    return y, torch.relu(y), positive, y.t() @ x, y @ weight, batched


def results_by_onednn(function, *inputs):
    """The function's results where oneDNN computes large products, and the number of products that
    MKL still computes."""
    operations = use_onednn(record(function, *inputs), *inputs)
    by_mkl = [n for n in operations.graph.nodes if n.name.startswith(("mm", "addmm", "bmm"))]
    return operations(*inputs), len(by_mkl)


@needs_onednn
def test_large_products_are_the_same_to_rounding():
    source = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*size, generator=source) for size in ((96, 130), (110, 130), (110,))]
    results, products_by_mkl = results_by_onednn(layer_products, *inputs)
    assert products_by_mkl == 0
    for by_onednn, by_mkl in zip(results, layer_products(*inputs), strict=True):
        torch.testing.assert_close(by_onednn, by_mkl, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_small_and_float64_products_are_left_to_mkl():
    small = [torch.ones(4, 5), torch.ones(3, 5), torch.ones(3)]
    large_float64 = [torch.ones(*size).double() for size in ((96, 130), (110, 130), (110,))]
    for inputs in (small, large_float64):
        results, products_by_mkl = results_by_onednn(layer_products, *inputs)
        assert products_by_mkl == 5
        for result, expected in zip(results, layer_products(*inputs), strict=True):
            assert torch.equal(result, expected)
