"""Multi-layer perceptron with ReLU (GEM: 100-100; A-GEM and MEGA: 256-256)."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import linear, relu

from gradalign_cli.errors import require
from gradalign_cli.models.model import Layer, Model, Output, kaiming_uniform
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector

INITS = ("xavier", "truncated_normal", "torch", "torch_weights")


def initial(out: int, into: int, init: str, source: Generator) -> list[Tensor]:
    """Weight [out, into] and bias [out] of one layer."""
    if init == "xavier":  # GEM
        bound = math.sqrt(6 / (into + out))
        return [(2 * torch.rand(out, into, generator=source) - 1) * bound, torch.zeros(out)]
    if init == "truncated_normal":  # A-GEM: standard deviation and biases of 0.1
        weight = torch.empty(out, into)
        torch.nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2, generator=source)
        return [weight, torch.full((out,), 0.1)]
    weight, bias = (kaiming_uniform(size, into, source) for size in ((out, into), (out,)))
    return [weight, bias if init == "torch" else torch.zeros(out)]


def mlp(
    widths: Sequence[int], init: str, bias: bool, shape: tuple[int, int, int], outputs: int
) -> Model:
    """Hidden layers of the given widths between the flattened image and the logits.

    init: `xavier` (uniform, zero biases), `truncated_normal`, `torch` (PyTorch's default) or
    `torch_weights` (its weights, with zero biases, as GEM's multimodal network).
    bias: whether layers have biases; GPM's networks have none.
    """
    require(
        all(isinstance(w, int) and w > 0 for w in widths), "model.widths", "positive", list(widths)
    )
    require(init in INITS, "model.init", f"one of {', '.join(INITS)}", init)
    sizes = [math.prod(shape), *widths, outputs]
    layers = list(zip(sizes[1:], sizes, strict=False))
    each = 1 + bias  # tensors a layer
    shapes = [part for out, into in layers for part in ((out, into), (out,))[:each]]

    def start(source: Generator) -> Tensor:
        return flatten_tensors(
            [part for layer in layers for part in initial(*layer, init, source)[:each]]
        )

    def forward(params: Tensor, x: Tensor) -> list[Tensor]:
        """What each layer multiplies, and the logits."""
        parts = split_vector(params, shapes)
        values = [x.flatten(1)]
        for k in range(0, len(parts), each):
            out = linear(values[-1], parts[k], parts[k + 1] if bias else None)
            values.append(relu(out) if k + each < len(parts) else out)
        return values

    def apply(
        params: Tensor, statistics: Tensor, x: Tensor, training: bool, noise: Tensor | Absent = ()
    ) -> Output:
        *_, features, logits = forward(params, x)
        return Output(logits, features, statistics)

    def inputs(params: Tensor, statistics: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(forward(params, x)[:-1])

    geometry = tuple(Layer(out * (into + bias), out, bias) for out, into in layers)
    return Model(start, torch.zeros(0), apply, False, geometry, inputs)
