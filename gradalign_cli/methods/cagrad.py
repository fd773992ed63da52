"""CAGrad: the best worst case within reach of the mean gradient (Liu et al. 2021, alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.methods.mgda import min_norm_weights
from gradalign_cli.methods.weighing import (
    jacobian_and_gram,
    mean_weights,
    minimiser_above_bounds,
    norms_and_cosines,
    with_ridge,
)
from gradalign_cli.numerics.trees import take_rows
from gradalign_cli.numerics.vectors import ratio_or_zero

CANDIDATES, ROUNDS = 32, 10  # each round divides the bracket of the multiplier by 31


class CAGradState(NamedTuple):
    """c: [] see `cagrad`."""

    c: Tensor


def conflict_averse_weights(K: Tensor, available_objectives: Tensor, c: Tensor) -> Tensor:
    """Weights [n] of argmax_d min_i g_i'd with |d - g0| <= c |g0| and g0 the mean gradient, for
    the Gram matrix K [n, n] of the gradients.

    d = J'(u + z) with u the mean weights. For a multiplier m of the worst case, z is
    argmin 1/2 z'Kz + (Ku - m)'z, z >= 0. The solution has the m where z'Kz = c^2 u'Ku. As z'Kz
    grows with m, rounds of equally spaced candidates bracket it. The programs are solved for
    gradients of length 1, y = |g_i| z_i. Objectives with a gradient of 0, which no direction
    changes, are left out, and a single objective has no conflict to avoid: its gradient is followed
    as it is.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    matrix, u, counted = with_ridge(cosines), mean_weights(available_objectives), norms > 0
    slopes = cosines @ (norms * u)  # of the unit gradients along g0
    radius = c * (counted.sum() > 1) * ((norms * u) @ slopes).clamp_min(0).sqrt()
    shortest = norms * min_norm_weights(K, counted)
    low = torch.where(counted, norms * slopes, torch.inf).min()
    high = torch.where(counted, norms * slopes, -torch.inf).max()
    high = high + radius * (shortest @ matrix @ shortest).sqrt()
    matrices = matrix.expand(CANDIDATES, -1, -1)
    grid = torch.linspace(0, 1, CANDIDATES, dtype=K.dtype, device=K.device)
    y, inverse_norms = torch.zeros_like(u), ratio_or_zero(torch.ones_like(norms), norms)
    for _ in range(ROUNDS):
        multipliers = low + (high - low) * grid
        q = torch.where(counted, slopes - multipliers[:, None] * inverse_norms, 0.0)
        candidates = minimiser_above_bounds(matrices, q, torch.zeros_like(q))
        lengths = ((candidates @ matrix) * candidates).sum(1).clamp_min(0).sqrt()
        below = ((lengths <= radius).sum() - 1).clamp(0, CANDIDATES - 2)
        bracket = below + torch.arange(2, device=K.device)
        low, high = take_rows(multipliers, bracket)  # multipliers[below] would wait for the device
        y = take_rows(candidates, bracket)[1]
        y = y * ratio_or_zero(radius, take_rows(lengths, bracket)[1])
    return u + y * inverse_norms


def cagrad(c: float) -> Method:
    """The direction whose smallest dot product with a task's gradient is largest, among the
    directions within `c` times the length of the mean gradient of that mean.

    c: with 0 the direction is the mean of all gradients; a large one comes near
    MGDA.
    """
    require(c >= 0, "method.c", "non-negative", c)

    def init(setup: MethodSetup) -> CAGradState:
        return CAGradState(setup.params.new_tensor(c))

    def align(gradients: Gradients, state: CAGradState) -> tuple[Tensor, CAGradState]:
        J, K, available_objectives = jacobian_and_gram(gradients)
        weights = conflict_averse_weights(K, available_objectives, state.c.double())
        return (weights @ J).to(gradients.g.dtype), state

    return Method(align, references="per_task", init=init)
