"""Multi-layer perceptron with ReLU (GEM: 100-100; A-GEM and MEGA: 256-256)."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import linear, pad, relu

from gradalign_cli.errors import require, require_choice
from gradalign_cli.models.model import (
    FactoredGradients,
    Layer,
    Model,
    Output,
    kaiming_uniform,
)
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector

Init = Literal["xavier", "truncated_normal", "torch", "torch_weights"]


def initial_layer(
    out_features: int, in_features: int, init: Init, generator: Generator
) -> tuple[Tensor, Tensor]:
    """The initial weight [out_features, in_features] and bias [out_features] of a layer; `init` as
    in `mlp`."""
    if init == "xavier":  # GEM
        bound = math.sqrt(6 / (in_features + out_features))
        uniform = 2 * torch.rand(out_features, in_features, generator=generator) - 1
        return uniform * bound, torch.zeros(out_features)
    if init == "truncated_normal":  # A-GEM: standard deviation and biases of 0.1
        weight = torch.empty(out_features, in_features)
        torch.nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2, generator=generator)
        return weight, torch.full((out_features,), 0.1)
    weight = kaiming_uniform((out_features, in_features), in_features, generator)
    bias = kaiming_uniform((out_features,), in_features, generator)
    return weight, bias if init == "torch" else torch.zeros(out_features)


def initial_params(
    weight_shapes: Sequence[tuple[int, int]], init: Init, bias: bool, generator: Generator
) -> Tensor:
    """The initial parameters [P] of layers with these (out_features, in_features)."""
    initial = [initial_layer(*shape, init, generator) for shape in weight_shapes]
    tensors_per_layer = 2 if bias else 1
    return flatten_tensors([tensor for layer in initial for tensor in layer[:tensors_per_layer]])


def layer_activations(weights: list[Tensor], biases: list[Tensor], images: Tensor) -> list[Tensor]:
    """The inputs [n, in_features] of each layer, and the logits [n, outputs] after them; `biases`
    is empty where layers have none."""
    activations = [images.flatten(1)]
    for number, weight in enumerate(weights):
        h = linear(activations[-1], weight, biases[number] if biases else None)
        activations.append(relu(h) if number + 1 < len(weights) else h)
    return activations


def factored_layer_gradients(
    weights: list[Tensor], inputs: list[Tensor], logit_gradients: Tensor, bias: bool
) -> tuple[FactoredGradients, ...]:
    """The gradients of single examples in each layer, from the last to the first; the arguments
    are as in `layer_activations` and `Model.factored_gradients`."""
    output_gradients = [logit_gradients]
    for weight, x in zip(weights[:0:-1], inputs[:0:-1], strict=True):
        output_gradients.append((output_gradients[-1] @ weight) * (x > 0))
    if bias:
        inputs = [pad(x, (0, 1), value=1.0) for x in inputs]
    pairs = zip(inputs, reversed(output_gradients), strict=True)
    return tuple(FactoredGradients(*pair) for pair in pairs)


def mlp(
    widths: Sequence[int], init: Init, bias: bool, shape: tuple[int, int, int], outputs: int
) -> Model:
    """Hidden layers of the given widths between the flattened image and the logits.

    init:   `xavier` (uniform weights, zero biases), `truncated_normal`, `torch` (PyTorch's default)
            or `torch_weights` (PyTorch's weights with zero biases, as in GEM's multimodal network).
    bias:   whether layers have biases; GPM's networks have none.
    shape:  (channels, height, width) of an image.
    """
    require(
        all(isinstance(w, int) and w > 0 for w in widths), "model.widths", "positive", list(widths)
    )
    require_choice(Init, "model.init", init)
    sizes = [math.prod(shape), *widths, outputs]
    weight_shapes = list(zip(sizes[1:], sizes, strict=False))
    tensors_per_layer = 2 if bias else 1
    tensor_shapes = [
        tensor_shape
        for out_features, in_features in weight_shapes
        for tensor_shape in ((out_features, in_features), (out_features,))[:tensors_per_layer]
    ]

    def init_params(generator: Generator) -> Tensor:
        return initial_params(weight_shapes, init, bias, generator)

    def weights_and_biases(params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tensors = split_vector(params, tensor_shapes)
        return tensors[::tensors_per_layer], tensors[1::2] if bias else []

    def activations(params: Tensor, images: Tensor) -> list[Tensor]:
        return layer_activations(*weights_and_biases(params), images)

    def apply(
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        training: bool,
        noise_keys: Tensor | Absent = (),
    ) -> Output:
        *_, features, logits = activations(params, images)
        return Output(logits, features, statistics)

    def layer_inputs(params: Tensor, statistics: Tensor, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(activations(params, images)[:-1])

    def factored_gradients(
        params: Tensor, images: Tensor, logit_gradients: Tensor
    ) -> tuple[FactoredGradients, ...]:
        weights, biases = weights_and_biases(params)
        inputs = layer_activations(weights, biases, images)[:-1]
        return factored_layer_gradients(weights, inputs, logit_gradients, bias)

    layers = tuple(Layer(rows * (columns + bias), rows, bias) for rows, columns in weight_shapes)
    model = Model(init_params, torch.zeros(0), apply, False, layers, layer_inputs)
    return model._replace(factored_gradients=factored_gradients)
