"""Weights that each task scales anew within a subspace of a layer's inputs, and computes with.

The scales are learned along with the weights, and a task is tested with its own (Lin et al. 2022,
eq. 4).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from gradalign_cli.methods.method import LossInputs, ObjectiveGradient, TakeGradient
from gradalign_cli.methods.subspace import layer_matrices, map_layer_matrices
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import (
    pad_to_common_shapes,
    tree_index,
    tree_leaves,
    tree_map,
    tree_stack,
)

Layers = tuple[Layer, ...]
Tree = TypeVar("Tree")


class Scaling(NamedTuple):
    """How a task scales the weights W [r, d] of one layer.

    basis: M [d, v] orthonormal columns, and zeros behind them.
    change: D [v, v] by how much the scales in the coordinates of these columns differ from 1.
    """

    basis: Tensor
    change: Tensor


def scale_weights(W: Tensor, scaling: Scaling, coordinates: Tensor | None = None) -> Tensor:
    """W [r, d] -> W + W M D M': the weights that a task computes with (eq. 4).

    coordinates: [r, v] W M, where it is known.
    """
    M, D = scaling
    return W + (W @ M if coordinates is None else coordinates) @ D @ M.T


def scale_params(params: Tensor, layers: Layers, scalings: Sequence[Scaling]) -> Tensor:
    """The parameters [P] that a task computes with, from its scaling of each projected layer."""
    functions = [partial(scale_weights, scaling=scaling) for scaling in scalings]
    return map_layer_matrices(params, layers, functions)


def learn_scaled_weights(
    take_gradient: TakeGradient,
    inputs: LossInputs,
    scalings: Sequence[Scaling],
    rates: Sequence[Tensor],
) -> tuple[ObjectiveGradient, tuple[Tensor, ...]]:
    """The objective at the scaled parameters and its gradient with respect to the parameters, and
    the D [v, v] of each layer after a step of the scales.

    With G [r, d] the gradient with respect to the scaled weights of a layer, that with respect to W
    is G + G M D' M', and that with respect to D is (W M)' G M, whatever D is.

    rates: the step sizes, [] or [v, v] for each layer.
    """
    layers = inputs.layers

    def coordinates(vector: Tensor) -> list[Tensor]:
        pairs = zip(layer_matrices(vector, layers), scalings, strict=False)
        return [W @ M for W, (M, _) in pairs]

    def scaled(vector: Tensor, known: list[Tensor], scalings: Sequence[Scaling]) -> Tensor:
        functions = [
            partial(scale_weights, scaling=scaling, coordinates=WM)
            for scaling, WM in zip(scalings, known, strict=True)
        ]
        return map_layer_matrices(vector, layers, functions)

    WM = coordinates(inputs.params)
    scaled_inputs = inputs._replace(params=scaled(inputs.params, WM, scalings))
    g, value_and_output = take_gradient(scaled_inputs)
    GM = coordinates(g)
    transposed = [Scaling(M, D.T) for M, D in scalings]
    changes = tuple(
        D - rate * (WM[k].T @ GM[k])
        for k, ((_, D), rate) in enumerate(zip(scalings, rates, strict=True))
    )
    return (scaled(g, GM, transposed), value_and_output), changes


def store_at_end(ended: Tree, current: Tree, following: Tree, task: int) -> tuple[Tree, Tree]:
    """What all tasks ended with [T, ...] and what the next one begins with, when task number `task`
    has ended with `current`: this is stored, in the shape of `following`, which comes next."""
    tasks = len(tree_leaves(ended)[0])
    of_tasks: list[Tree] = [tree_index(ended, ended_task) for ended_task in range(task)]
    of_tasks += [current] + [following] * (tasks - task)
    stored: Tree = tree_stack(pad_to_common_shapes(of_tasks)[:-1])
    return stored, following


def value_of_task(ended: Tree, current: Tree, ended_tasks: Tensor, task: int) -> Tree:
    """What task number `task` computes with: the current while as many tasks have ended, else what
    it ended with."""
    is_current = ended_tasks == task
    chosen: Tree = tree_map(
        lambda now, stored: torch.where(is_current, now, stored[task]), current, ended
    )
    return chosen
