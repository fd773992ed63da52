import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from gradalign_cli.errors import UserError
from gradalign_cli.methods.subspace import layer_matrix
from gradalign_cli.models.convnet import Block, alexnet, convnet, image_patches, lenet
from gradalign_cli.numerics.noise import random_integers

SHARES = [0.2, 0.2, 0.5, 0.5, 0.5]
SMALL = [Block(4, 3, 1, (2, 2, 0)), Block(6, 2, 0, (3, 2, 1))]


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def load_params(network, params):
    """Give the parameters of a flat vector (matrices, then BatchNorm) to PyTorch's layers."""
    matrices = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    tensors = [*matrices, *(t for m in norms for t in (m.weight, m.bias))]
    for part, tensor in zip(params.split([t.numel() for t in tensors]), tensors, strict=True):
        tensor.data = part.view_as(tensor)
    return network


def norm(layer_type, width):
    return layer_type(width, track_running_stats=False)


class KeyedDropout(nn.Module):
    """PyTorch's dropout, where random integers decide which activations are dropped."""

    def __init__(self, share):
        super().__init__()
        self.share, self.integers = share, None

    def forward(self, x):
        dropped = self.integers.view(x.shape) < round(65536 * self.share) - 32768
        return x.masked_fill(dropped, 0) / (1 - round(65536 * self.share) / 65536)


def test_alexnet_agrees_with_pytorchs_layers():
    parts = []
    for into, out, kernel, share in ((3, 64, 4, 0.2), (64, 128, 3, 0.2), (128, 256, 2, 0.5)):
        parts += [nn.Conv2d(into, out, kernel, bias=False), norm(nn.BatchNorm2d, out)]
        parts += [nn.ReLU(), KeyedDropout(share), nn.MaxPool2d(2)]
    parts.append(nn.Flatten())
    for into, out in ((1024, 2048), (2048, 2048)):
        parts += [nn.Linear(into, out, bias=False), norm(nn.BatchNorm1d, out), nn.ReLU()]
        parts.append(KeyedDropout(0.5))
    parts.append(nn.Linear(2048, 10, bias=False))
    model, x = alexnet((3, 32, 32), 10, SHARES), uniform(3, 3, 32, 32)
    params = model.init(torch.Generator().manual_seed(0)).double()
    with_dropout = load_params(nn.Sequential(*parts), params)
    without_dropout = nn.Sequential(*(part for part in parts if not isinstance(part, KeyedDropout)))

    keys = torch.tensor([3, 1, 4])
    entries = [64 * 29 * 29, 128 * 12 * 12, 256 * 5 * 5, 2048, 2048]
    integers = random_integers(keys, sum(entries)).split(entries, 1)
    dropouts = [part for part in parts if isinstance(part, KeyedDropout)]
    for dropout, layer_integers in zip(dropouts, integers, strict=True):
        dropout.integers = layer_integers
    assert model.needs_noise
    logits = model.apply(params, params[:0], x, True, keys).logits
    torch.testing.assert_close(logits, with_dropout(x))
    for training, noise_keys in ((True, ()), (False, ()), (False, keys)):
        logits = model.apply(params, params[:0], x, training, noise_keys).logits
        torch.testing.assert_close(logits, without_dropout(x))


def test_a_network_without_dropout_needs_no_noise():
    for model in (alexnet((3, 32, 32), 2, []), alexnet((3, 32, 32), 2, [0.0] * 5)):
        assert not model.needs_noise
        params, x = model.init(torch.Generator().manual_seed(0)), uniform(3, 3, 32, 32).float()
        logits = [
            model.apply(params, x[0, 0, 0, :0], x, True, keys).logits
            for keys in ((), x[:, 0, 0, 0])
        ]
        assert torch.equal(*logits)


@pytest.mark.parametrize("shares", [[0.2], [0.2, 0.2, 0.5, 0.5, 1.0], [0.1] * 4 + ["a"]])
def test_a_dropout_share_out_of_its_domain_is_refused(shares):
    with pytest.raises(UserError, match=r"`model.dropout` must be a list of 5 numbers in \[0, 1\)"):
        alexnet((3, 32, 32), 10, shares)


def test_lenet_agrees_with_pytorchs_layers():
    parts = []
    for into, out in ((3, 20), (20, 50)):
        parts += [nn.Conv2d(into, out, 5, padding=2, bias=False), nn.ReLU()]
        parts += [nn.LocalResponseNorm(4, 0.001 / 9, 0.75, 1), nn.MaxPool2d(3, 2, 1)]
    parts += [nn.Flatten(), nn.Linear(3200, 800, bias=False), nn.ReLU()]
    parts += [nn.Linear(800, 500, bias=False), nn.ReLU(), nn.Linear(500, 5, bias=False)]
    model, x = lenet((3, 32, 32), 5), uniform(3, 3, 32, 32)
    params = model.init(torch.Generator().manual_seed(0)).double()
    logits = model.apply(params, params[:0], x, True).logits
    torch.testing.assert_close(logits, load_params(nn.Sequential(*parts), params)(x))


def test_initial_weights_are_uniform_within_their_bound_and_batch_norm_starts_as_the_identity():
    for with_batch_norm, gain in ((True, 1.0), (False, math.sqrt(6))):
        model = convnet(SMALL, [7], with_batch_norm, gain, (2, 9, 9), 3)
        params = model.init(torch.Generator().manual_seed(0))
        parts = params.split([layer.size for layer in model.layers])
        for part, layer in zip(parts, model.layers, strict=True):
            if layer.matrix_rows:
                bound = gain / math.sqrt(layer.size // layer.matrix_rows)
                assert 0.8 * bound < part.abs().max() <= bound
        if with_batch_norm:
            ones, zeros = parts[-6::2], parts[-5::2]
            assert all((part == 1).all() for part in ones)
            assert all((part == 0).all() for part in zeros)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_a_convolution_is_its_kernels_times_the_patches_of_its_images(padding):
    block, x, kernel = Block(4, 3, padding, (1, 1, 0)), uniform(2, 3, 6, 5), uniform(4, 3, 3, 3)
    out = conv2d(x, kernel, padding=padding)
    products = image_patches(x, block) @ kernel.flatten(1).T
    torch.testing.assert_close(products, out.permute(0, 2, 3, 1).flatten(0, 2))


@pytest.mark.parametrize("with_batch_norm", [True, False])
def test_the_gradient_of_a_layer_lies_in_the_span_of_its_inputs(with_batch_norm):
    """GPM's assumption: a layer's gradient, also that of kernels, is a sum of outer products with
    its inputs."""
    model = convnet(SMALL, [7], with_batch_norm, 1.0, (2, 9, 9), 3)
    params = model.init(torch.Generator().manual_seed(0)).double()
    x = uniform(2, 2, 9, 9)
    inputs = model.layer_inputs(params, params[:0], x)
    leaf = params.clone().requires_grad_()
    (g,) = torch.autograd.grad(model.apply(leaf, leaf[:0], x, True).logits.square().sum(), leaf)
    matrices = [layer for layer in model.layers if layer.matrix_rows]
    parts = g.split([layer.size for layer in model.layers])
    assert len(inputs) == len(matrices)
    for part, layer, X in zip(parts, matrices, inputs, strict=False):
        G = layer_matrix(part, layer)
        assert X.shape[1] == G.shape[1]
        span = torch.linalg.pinv(X) @ X
        torch.testing.assert_close(G @ span, G)


def test_a_batch_of_one_example_is_refused_where_the_model_normalises_by_the_batch():
    model, x = convnet(SMALL, [7], True, 1.0, (2, 9, 9), 3), uniform(1, 2, 9, 9)
    params = model.init(torch.Generator().manual_seed(0)).double()
    with pytest.raises(
        UserError, match="`model` normalises by the batch and was given one example"
    ):
        model.apply(params, params[:0], x, True)


def test_images_too_small_for_the_pooling_are_refused():
    with pytest.raises(UserError, match="`model` must be a smaller network for images this small"):
        alexnet((1, 8, 8), 10, SHARES)
