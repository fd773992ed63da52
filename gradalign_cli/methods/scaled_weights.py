"""Weights that each task scales anew within subspaces of a layer's inputs, and computes with.

The scales are learned along with the weights, and a task is tested with its own (Lin et al. 2022,
eq. 4).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.methods.method import LossInputs, ObjectiveGradient
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


def scale_weights(W: Tensor, scaling: Scaling) -> Tensor:
    """W [r, d] -> W + sum_k W S_k (Q_k - I) S_k': the weights that a task computes with (eq. 4)."""
    S, Q = scaling
    eye = torch.eye(Q.shape[-1], dtype=W.dtype, device=W.device)
    return W + (W @ S @ (Q - eye) @ S.mT).sum(0)


def scale_params(params: Tensor, layers: Layers, scalings: Sequence[Scaling]) -> Tensor:
    """The parameters [P] that a task computes with, from its scaling of each projected layer."""
    functions = [partial(scale_weights, scaling=scaling) for scaling in scalings]
    return map_layer_matrices(params, layers, functions)


def weights_gradient(G: Tensor, scaling: Scaling) -> Tensor:
    """The gradient [r, d] with respect to W, from the gradient G [r, d] with respect to
    `scale_weights(W, scaling)`."""
    S, Q = scaling
    return scale_weights(G, Scaling(S, Q.mT))


def scales_gradient(W: Tensor, G: Tensor, S: Tensor) -> Tensor:
    """The gradient [K, w, w] with respect to the scales Q, from the gradient G [r, d] with respect
    to `scale_weights(W, Scaling(S, Q))`; it does not depend on Q."""
    return (W @ S).mT @ (G @ S)


def neutral_scaling(like_spaces: Tensor, max_trusted_tasks: int) -> Scaling:
    """The scaling of a layer by a task that trusts no other, with room for `max_trusted_tasks`
    spaces of the shape [d, w] and the type of those in `like_spaces` [T, d, w]."""
    d, w = like_spaces.shape[1:]
    eye = torch.eye(w, dtype=like_spaces.dtype, device=like_spaces.device)
    return Scaling(
        like_spaces.new_zeros(max_trusted_tasks, d, w), eye.expand(max_trusted_tasks, w, w).clone()
    )


def learn_scales(
    objective_gradient: ObjectiveGradient,
    inputs: LossInputs,
    scalings: Sequence[Scaling],
    scales_lr: Tensor,
) -> tuple[ObjectiveGradient, Scalings]:
    """The gradient with respect to the parameters, and the scalings after a step of size
    `scales_lr` [] down the gradient with respect to the scales, from the objective's gradient at
    the scaled parameters, with respect to these."""
    g, value_and_output = objective_gradient
    layers = inputs.layers
    matrices = zip(layer_matrices(inputs.params, layers), layer_matrices(g, layers), strict=True)
    learned = tuple(
        Scaling(S, Q - scales_lr * scales_gradient(W, G, S))
        for (W, G), (S, Q) in zip(matrices, scalings, strict=False)
    )
    functions = [partial(weights_gradient, scaling=scaling) for scaling in scalings]
    return (map_layer_matrices(g, layers, functions), value_and_output), learned


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
