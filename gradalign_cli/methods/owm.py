"""OWM: change weights only orthogonally to the mean inputs of old tasks (Zeng et al. 2019,
eqs. 1-3)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import (
    map_matrices,
    projected_widths,
    representation_matrices,
    require_one_or_per_layer,
)


class OWMState(NamedTuple):
    """projectors: P [d, d] of each projected layer, the identity until a task has ended."""

    projectors: tuple[Tensor, ...]


def shrink_projector(P: Tensor, mean_inputs: Tensor, alpha: float, decay: float) -> Tensor:
    """P [d, d] after the mean inputs [n, d] of n batches, by recursive least squares (eq. 3).

    For each x_i in turn, P <- P - P x_i x_i'P / (alpha_i + x_i'P x_i) with
    alpha_i = alpha * decay ** (i / n). From the identity this gives the inverse of
    I + sum_i x_i x_i' / alpha_i.
    """
    for i, x in enumerate(mean_inputs):
        k = P @ x
        P = P - torch.outer(k, k) / (alpha * decay ** (i / len(mean_inputs)) + x @ k)
    return P


def owm(alpha: list[float], decay: list[float], batch: int, project_head: bool) -> Method:
    """Each layer's gradient G becomes G P. When a task has ended, P shrinks along the mean inputs
    of the task's batches.

    alpha, decay: of `shrink_projector`, one number for each projected layer or one for all.
    batch: how many examples a mean input is taken over.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    """
    require(batch > 0, "method.batch", "positive", batch)
    for name, values in (("alpha", alpha), ("decay", decay)):
        is_valid = len(values) > 0 and all(value > 0 for value in values)
        require(is_valid, f"method.{name}", "a list of positive numbers", values)

    def init(setup: MethodSetup) -> OWMState:
        widths = projected_widths(setup, project_head)
        require_one_or_per_layer("method.alpha", alpha, len(widths))
        require_one_or_per_layer("method.decay", decay, len(widths))
        eye = partial(torch.eye, dtype=setup.params.dtype, device=setup.params.device)
        return OWMState(tuple(eye(width) for width in widths))

    def align(gradients: Gradients, state: OWMState) -> tuple[Tensor, OWMState]:
        projections = [lambda G, P=P: G @ P for P in state.projectors]
        return map_matrices(gradients.g, gradients.layers, projections), state

    def end_task(state: OWMState, params: Tensor, probe: Probe) -> OWMState:
        batches = [
            representation_matrices(probe.layer_inputs(rows), probe.layers)
            for rows in probe.rows.split(batch)
        ]
        mean_inputs = [
            torch.stack([R.mean(1) for R in layer]) for layer in zip(*batches, strict=True)
        ]
        projectors = [
            shrink_projector(
                P, mean_inputs[k].to(P.dtype), alpha[k % len(alpha)], decay[k % len(decay)]
            )
            for k, P in enumerate(state.projectors)
        ]
        return OWMState(tuple(projectors))

    return Method(align, init=init, end_task=end_task)
