"""Progressive network: a column for each task, which also sees all earlier ones (Rusu et al. 2016,
eq. 2)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.nn.functional import linear, relu

from gradalign_cli.errors import require, require_choice
from gradalign_cli.models.mlp import Init, initial_layer
from gradalign_cli.models.model import Layer, Model, Output
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector

LARGEST_INITIAL_SCALE = 0.1  # as in DER's published code; the paper says random and small

Shape = tuple[int, ...]


def column_shapes(layer_sizes: Sequence[int], column_index: int) -> list[list[Shape]]:
    """The shapes of the tensors of each layer of column number `column_index`, from 0.

    layer_sizes: of the input, of the hidden layers and of the column's logits. A layer has a matrix
    W and a bias. Each layer but the first of each column but the first also has an adapter: a scale
    of each earlier column, a matrix V and a bias that bring their activations to the size of one
    column's, and a matrix U that brings these to the layer's.
    """
    layers = []
    for depth, (inputs, outputs) in enumerate(pairwise(layer_sizes)):
        adapter = [(column_index,), (inputs, column_index * inputs), (inputs,), (outputs, inputs)]
        weights = [(outputs, inputs), (outputs,)]
        layers.append([*(adapter if depth and column_index else []), *weights])
    return layers


def initial_layer_tensors(
    tensor_shapes_of_layer: list[Shape], init: Init, generator: Generator
) -> list[Tensor]:
    """The initial tensors of a layer, as `column_shapes` lists their shapes."""
    *adapter, (outputs, inputs), _ = tensor_shapes_of_layer
    weights = initial_layer(outputs, inputs, init, generator)
    if not adapter:
        return [*weights]
    scales, V, _, U = adapter
    return [
        LARGEST_INITIAL_SCALE * torch.rand(scales, generator=generator),
        *initial_layer(V[0], V[1], init, generator),
        initial_layer(U[0], U[1], init, generator)[0],
        *weights,
    ]


def lateral_input(adapter: Sequence[Tensor], earlier_activations: list[Tensor]) -> Tensor:
    """What the activations [n, inputs] of the earlier columns add to a layer [n, outputs]."""
    scales, V, bias, U = adapter
    scaled = [scale * h for scale, h in zip(scales.unbind(), earlier_activations, strict=True)]
    return linear(relu(linear(torch.cat(scaled, 1), V, bias)), U)


def forward_column(
    layers: list[list[Tensor]], x: Tensor, earlier_activations: list[list[Tensor]]
) -> list[Tensor]:
    """The inputs [n, size] of each layer of a column, and its logits [n, outputs] after them;
    earlier_activations: the same of the earlier columns."""
    activations = [x]
    for depth, (*adapter, W, bias) in enumerate(layers):
        h = linear(activations[-1], W, bias)
        if adapter:
            h = h + lateral_input(adapter, [column[depth] for column in earlier_activations])
        activations.append(relu(h) if depth + 1 < len(layers) else h)
    return activations


def progressive(
    widths: Sequence[int], init: Init, columns: int, shape: tuple[int, int, int], outputs: int
) -> Model:
    """As many MLPs as columns, one after the other. The first has the first logits, an equal share,
    the second the next, and so on. Layers after the first also see the activations of all earlier
    columns, through an adapter with a hidden layer.

    No gradient passes from a column to an earlier one. With a column for each task of a task-
    incremental benchmark, whose softmax has the task's logits alone, an earlier column therefore
    stays as it is, as the paper freezes it. The columns of later tasks are there from the beginning
    with their initial weights, and idle. Weight decay and momentum would change idle columns.

    widths, init: as in `mlp`, of each column;  columns: must divide the number of logits.
    """
    require(
        all(isinstance(w, int) and w > 0 for w in widths), "model.widths", "positive", list(widths)
    )
    require_choice(Init, "model.init", init)
    divides = columns > 0 and outputs % columns == 0
    require(divides, "model.columns", f"a divisor of the number of logits, {outputs}", columns)
    sizes = [math.prod(shape), *widths, outputs // columns]
    shapes = [column_shapes(sizes, number) for number in range(columns)]
    flat_shapes = [s for column in shapes for layer in column for s in layer]

    def init_params(generator: Generator) -> Tensor:
        layers = [layer for column in shapes for layer in column]
        tensors = [initial_layer_tensors(layer, init, generator) for layer in layers]
        return flatten_tensors([tensor for layer in tensors for tensor in layer])

    def apply(
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        training: bool,
        noise_keys: Tensor | Absent = (),
    ) -> Output:
        tensors = iter(split_vector(params, flat_shapes))
        earlier: list[list[Tensor]] = []
        hidden, logits = [], []
        for column in shapes:
            layers = [[next(tensors) for _ in layer] for layer in column]
            activations = forward_column(layers, images.flatten(1), earlier)
            hidden.append(activations[-2])
            logits.append(activations[-1])
            earlier.append([h.detach() for h in activations])
        return Output(torch.cat(logits, 1), torch.cat(hidden, 1), statistics)

    layers = tuple(
        part for column in shapes for layer in column for part in layer_parts_in_vector(layer)
    )
    return Model(init_params, torch.zeros(0), apply, False, layers)


def layer_parts_in_vector(tensor_shapes_of_layer: list[Shape]) -> list[Layer]:
    """The parts of the flat vector that the tensors of a layer are, as `column_shapes` lists
    them."""
    *adapter, (outputs, inputs), _ = tensor_shapes_of_layer
    weights = Layer(outputs * (inputs + 1), outputs, True)
    if not adapter:
        return [weights]
    (scales,), (rows, columns), _, (U_rows, U_columns) = adapter
    return [
        Layer(scales, 0, False),
        Layer(rows * (columns + 1), rows, True),
        Layer(U_rows * U_columns, U_rows, False),
        weights,
    ]
