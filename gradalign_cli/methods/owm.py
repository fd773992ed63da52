"""OWM: change weights only orthogonally to the mean inputs of old tasks (Zeng et al. 2019,
eqs. 1-3)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import (
    map_layer_matrices,
    projected_layer_widths,
    representation_matrices,
    require_layer_inputs,
    require_one_or_per_layer,
)

BLOCK = 128  # mean inputs that a projector takes in at once
BATCHES_AT_ONCE = 64  # whose mean inputs are in memory together


class OWMState(NamedTuple):
    """projectors: P [d, d] of each projected layer, the identity until a task has ended."""

    projectors: tuple[Tensor, ...]


def mean_inputs_by_position(R: Tensor, examples: int) -> Tensor:
    """The mean inputs [positions, d] of a batch, from the representation matrix [d, examples *
    positions] of a layer: one for each position of a convolution's kernels on the images, and one
    in all for a linear layer."""
    mean_inputs: Tensor = R.unflatten(1, (examples, -1)).mean(1).T
    return mean_inputs


def mean_inputs_of_batches(probe: Probe, batches: Sequence[Tensor]) -> list[Tensor]:
    """The mean inputs [batches, positions, d] of each layer with a matrix, from the rows of each
    batch."""
    by_batch = [
        [
            mean_inputs_by_position(R, len(rows)).double()
            for R in representation_matrices(probe.layer_inputs(rows), probe.layers)
        ]
        for rows in batches
    ]
    return [torch.stack(layer) for layer in zip(*by_batch, strict=True)]


def shrink_projector(P: Tensor, mean_inputs: Tensor, alphas: Tensor) -> Tensor:
    """P [d, d] after the mean inputs [n, d], by recursive least squares with alphas [n] (eq. 3).

    For each x_i in turn, the paper has P <- P - P x_i x_i'P / (alpha_i + x_i'P x_i). This adds
    x_i x_i' / alpha_i to the inverse of P, so that a block of them can be added at once (Woodbury):
    with a row x_i' / sqrt(alpha_i) of Y for each, P <- P - P Y'(I + Y P Y')^-1 Y P is the same P.
    From the identity it is the inverse of I + sum_i x_i x_i' / alpha_i.
    """
    for Y in (mean_inputs / alphas.sqrt()[:, None]).split(BLOCK):
        YP = Y @ P
        eigenvalues, V = torch.linalg.eigh(YP @ Y.T)
        # Y P Y' has negative eigenvalues only by the rounding of P, and long rows raise them
        K = (V.T @ YP) / (1 + eigenvalues.clamp_min(0)).sqrt()[:, None]
        P = P - K.T @ K
    return P


def owm(alpha: list[float], decay: list[float], batch_size: int, project_head: bool) -> Method:
    """Each layer's gradient G becomes G P (eq. 2). When a task has ended, P shrinks along the mean
    inputs of the task's batches (eq. 3).

    Convolutions are treated as in the published code (OWM_CNN): the kernels have a mean input for
    each of their positions on the images, the patches there averaged over the batch alone. That
    code shrinks P in every step of training; here the inputs are those of the network with which
    the task ends.

    alpha, decay: the alpha of batch i of n is alpha * decay ** (i / n), the same for all positions;
    one number for each projected layer or one for all.
    batch_size: how many examples a mean input is taken over.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    """
    require(batch_size > 0, "method.batch_size", "positive", batch_size)
    for name, values in (("alpha", alpha), ("decay", decay)):
        is_valid = len(values) > 0 and all(value > 0 for value in values)
        require(is_valid, f"method.{name}", "a list of positive numbers", values)

    def init(setup: MethodSetup) -> OWMState:
        require_layer_inputs(setup)
        widths = projected_layer_widths(setup, project_head)
        require_one_or_per_layer("method.alpha", alpha, len(widths))
        require_one_or_per_layer("method.decay", decay, len(widths))
        eye = partial(torch.eye, dtype=setup.params.dtype, device=setup.params.device)
        return OWMState(tuple(eye(width) for width in widths))

    def align(gradients: Gradients, state: OWMState) -> tuple[Tensor, OWMState]:
        projections = [lambda G, P=P: G @ P for P in state.projectors]
        return map_layer_matrices(gradients.g, gradients.layers, projections), state

    def end_task(state: OWMState, params: Tensor, probe: Probe) -> OWMState:
        batches = probe.rows.split(batch_size)
        shares = torch.arange(len(batches), dtype=torch.float64) / len(batches)
        projectors = [P.double() for P in state.projectors]
        for first in range(0, len(batches), BATCHES_AT_ONCE):
            batches_at_once = slice(first, first + BATCHES_AT_ONCE)
            mean_inputs = mean_inputs_of_batches(probe, batches[batches_at_once])
            for k, P in enumerate(projectors):
                alphas = alpha[k % len(alpha)] * decay[k % len(decay)] ** shares[batches_at_once]
                positions = mean_inputs[k].shape[1]
                projectors[k] = shrink_projector(
                    P,
                    mean_inputs[k].flatten(0, 1),
                    alphas.repeat_interleave(positions),
                )
        return OWMState(tuple(P.to(params.dtype) for P in projectors))

    return Method(
        align,
        init=init,
        end_task=end_task,
        claims=("does_not_lengthen",),
        align_accepts_updates=True,
    )
