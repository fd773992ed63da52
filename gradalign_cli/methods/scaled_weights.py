"""Weights that each task scales anew within subspaces of a layer's inputs, and computes with.

The scales are learned along with the weights, and a task is tested with its own (Lin et al. 2022,
eq. 4).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import LossInputs, ObjectiveGradient, TakeGradient
from gradalign_cli.methods.subspace import layer_matrices, map_layer_matrices
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_index, tree_map, tree_stack

Layers = tuple[Layer, ...]
Scalings = tuple["Scaling", ...]  # of the projected layers


class Scaling(NamedTuple):
    """How a task scales the weights W of one layer.

    spaces: [K, d, w] orthonormal columns S_k of the input spaces of the K old tasks that it trusts,
    0 where it trusts fewer;  scales: [K, w, w] the Q_k that it learns for them.
    """

    spaces: Tensor
    scales: Tensor


def scale_weights(W: Tensor, scaling: Scaling, coordinates: Tensor | None = None) -> Tensor:
    """W [r, d] -> W + sum_k W S_k (Q_k - I) S_k': the weights that a task computes with (eq. 4).

    coordinates: [K, r, w] the W S_k, where they are known."""
    S, Q = scaling
    within = W @ S if coordinates is None else coordinates
    eye = torch.eye(Q.shape[-1], dtype=W.dtype, device=W.device)
    return W + (within @ (Q - eye) @ S.mT).sum(0)


def scale_params(params: Tensor, layers: Layers, scalings: Sequence[Scaling]) -> Tensor:
    """The parameters [P] that a task computes with, from its scaling of each projected layer."""
    functions = [partial(scale_weights, scaling=scaling) for scaling in scalings]
    return map_layer_matrices(params, layers, functions)


def layer_coordinates(vector: Tensor, layers: Layers, scalings: Sequence[Scaling]) -> list[Tensor]:
    """W S_k [K, r, w] for the matrix W [r, d] of each projected layer in a flat vector [P]."""
    matrices = layer_matrices(vector, layers)
    return [W @ S for W, (S, _) in zip(matrices, scalings, strict=False)]


def learn_scaled_weights(
    take_gradient: TakeGradient,
    inputs: LossInputs,
    scalings: Sequence[Scaling],
    scales_lr: Tensor,
) -> tuple[ObjectiveGradient, Scalings]:
    """The objective at the scaled parameters and its gradient with respect to the parameters, and
    the scalings after a step of size `scales_lr` [] down the gradient with respect to the scales.

    With G [r, d] the gradient with respect to the scaled weights of a layer, that with respect to W
    is G scaled by the Q_k', and that with respect to Q_k is (W S_k)' G S_k, whatever Q_k is.
    """
    layers = inputs.layers

    def scaled(vector: Tensor, coordinates: list[Tensor], scalings: Sequence[Scaling]) -> Tensor:
        pairs = zip(scalings, coordinates, strict=True)
        functions = [partial(scale_weights, scaling=S, coordinates=C) for S, C in pairs]
        return map_layer_matrices(vector, layers, functions)

    of_params = layer_coordinates(inputs.params, layers, scalings)
    scaled_params = scaled(inputs.params, of_params, scalings)
    g, value_and_output = take_gradient(inputs._replace(params=scaled_params))
    of_gradient = layer_coordinates(g, layers, scalings)
    transposed = [Scaling(S, Q.mT) for S, Q in scalings]
    learned = tuple(
        Scaling(S, Q - scales_lr * (WS.mT @ GS))
        for (S, Q), WS, GS in zip(scalings, of_params, of_gradient, strict=True)
    )
    return (scaled(g, of_gradient, transposed), value_and_output), learned


def neutral_scaling(like_spaces: Tensor, max_trusted_tasks: int) -> Scaling:
    """The scaling of a layer by a task that trusts no other, with room for `max_trusted_tasks`
    spaces of the shape [d, w] and the type of those in `like_spaces` [T, d, w]."""
    d, w = like_spaces.shape[1:]
    eye = torch.eye(w, dtype=like_spaces.dtype, device=like_spaces.device)
    return Scaling(
        like_spaces.new_zeros(max_trusted_tasks, d, w), eye.expand(max_trusted_tasks, w, w).clone()
    )


def store_scalings(
    ended: Scalings, current: Scalings, following: Scalings, task: int
) -> tuple[Scalings, Scalings]:
    """The scalings of all ended tasks [T, ...] and the current ones, when task number `task` has
    ended: its scalings are stored, as wide as those that the next task begins with."""
    tasks = len(ended[0].spaces)
    of_tasks: list[Scalings] = [tree_index(ended, ended_task) for ended_task in range(task)]
    of_tasks += [current] + [following] * (tasks - task)
    stored: Scalings = tree_stack(pad_to_common_shapes(of_tasks)[:-1])
    return stored, following


def scalings_of_task(
    ended: Scalings, current: Scalings, ended_tasks: Tensor, task: int
) -> Scalings:
    """The scalings of task number `task`: the current ones while as many tasks have ended, else
    those that are stored."""
    is_current = ended_tasks == task
    chosen: Scalings = tree_map(
        lambda now, stored: torch.where(is_current, now, stored[task]), current, ended
    )
    return chosen
