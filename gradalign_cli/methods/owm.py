"""OWM: change weights only where old tasks' mean inputs are not (Zeng et al. 2019, eqs. 1-3)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import (
    in_matrices,
    one_or_each,
    projected_widths,
    representations,
)


class Projectors(NamedTuple):
    """P: [d, d] of each projected layer, I before the first task has ended."""

    P: tuple[Tensor, ...]


def shrunk(P: Tensor, means: Tensor, alpha: float, decay: float) -> Tensor:
    """P [d, d] after the mean inputs [n, d] of n batches, by recursive least squares (eq. 3).

    P <- P - P x x'P / (alpha_i + x'P x) with alpha_i = alpha * decay ** (i / n): the inverse of
    I + sum_i x_i x_i' / alpha_i, kept up to date batch by batch.
    """
    for i, x in enumerate(means):
        k = P @ x
        P = P - torch.outer(k, k) / (alpha * decay ** (i / len(means)) + x @ k)
    return P


def owm(alpha: list[float], decay: list[float], batch: int, project_head: bool) -> Method:
    """Each layer's gradient G becomes G P; P loses the directions of the ended task's inputs.

    alpha, decay: one a layer or one for all; batch: examples a mean input is taken of.
    project_head: false where every task has logits of its own.
    """
    require(batch > 0, "method.batch", "positive", batch)
    for name, values in (("alpha", alpha), ("decay", decay)):
        fits = len(values) > 0 and all(value > 0 for value in values)
        require(fits, f"method.{name}", "a list of positive numbers", values)

    def init(setting: MethodSetup) -> Projectors:
        widths = projected_widths(setting, project_head)
        one_or_each("method.alpha", alpha, len(widths))
        one_or_each("method.decay", decay, len(widths))
        eye = partial(torch.eye, dtype=setting.params.dtype, device=setting.params.device)
        return Projectors(tuple(eye(width) for width in widths))

    def align(gradients: Gradients, state: Projectors) -> tuple[Tensor, Projectors]:
        changes = [lambda G, P=P: G @ P for P in state.P]
        return in_matrices(gradients.g, gradients.layers, changes), state

    def end_task(state: Projectors, params: Tensor, probe: Probe) -> Projectors:
        found = [
            representations(probe.layer_inputs(r), probe.layers) for r in probe.rows.split(batch)
        ]
        means = [torch.stack([R.mean(1) for R in layer]) for layer in zip(*found, strict=True)]
        return Projectors(
            tuple(
                shrunk(P, means[k].to(P.dtype), alpha[k % len(alpha)], decay[k % len(decay)])
                for k, P in enumerate(state.P)
            )
        )

    return Method(align, init=init, end_task=end_task)
