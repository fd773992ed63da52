"""Multi-layer perceptron with ReLU (GEM: 100-100; A-GEM and MEGA: 256-256)."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import linear, relu

from gradalign_cli.errors import require
from gradalign_cli.models.model import Model, Output, kaiming_uniform
from gradalign_cli.vectors import ravel, unravel

INITS = ("xavier", "truncated_normal", "torch")


def initial(out: int, into: int, init: str, source: Generator) -> list[Tensor]:
    """Weight [out, into] and bias [out] of one layer."""
    if init == "xavier":  # GEM
        bound = math.sqrt(6 / (into + out))
        return [(2 * torch.rand(out, into, generator=source) - 1) * bound, torch.zeros(out)]
    if init == "truncated_normal":  # A-GEM: standard deviation and biases of 0.1
        weight = torch.empty(out, into)
        torch.nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2, generator=source)
        return [weight, torch.full((out,), 0.1)]
    return [kaiming_uniform((out, into), into, source), kaiming_uniform((out,), into, source)]


def mlp(widths: Sequence[int], init: str, shape: tuple[int, int, int], outputs: int) -> Model:
    """Hidden layers of the given widths between the flattened image and the logits.

    init: `xavier` (uniform, zero biases), `truncated_normal` or `torch` (PyTorch's default).
    """
    require(
        all(isinstance(w, int) and w > 0 for w in widths), "model.widths", "positive", list(widths)
    )
    require(init in INITS, "model.init", f"one of {', '.join(INITS)}", init)
    sizes = [math.prod(shape), *widths, outputs]
    layers = list(zip(sizes[1:], sizes, strict=False))
    shapes = [part for out, into in layers for part in ((out, into), (out,))]

    def start(source: Generator) -> Tensor:
        return ravel([part for layer in layers for part in initial(*layer, init, source)])

    def apply(params: Tensor, statistics: Tensor, x: Tensor, training: bool) -> Output:
        parts = unravel(params, shapes)
        features = x.flatten(1)
        for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            features = relu(linear(features, weight, bias))
        return Output(linear(features, parts[-2], parts[-1]), features, statistics)

    sizes_of_layers = tuple(out * into + out for out, into in layers)
    return Model(start, torch.zeros(0), apply, False, sizes_of_layers)
