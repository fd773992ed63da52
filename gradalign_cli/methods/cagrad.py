"""CAGrad: the best worst case within reach of the mean gradient (Liu et al. 2021, alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.methods.mgda import shortest
from gradalign_cli.methods.weighing import gram, mean_weights, non_negative_qp, regular
from gradalign_cli.numerics.trees import take_rows
from gradalign_cli.numerics.vectors import ratio_or_zero

CANDIDATES, ROUNDS = 32, 6  # each round narrows the bracket of the multiplier 31 times


class Reach(NamedTuple):
    """reach: [] the paper's c."""

    reach: Tensor


def averse(K: Tensor, there: Tensor, reach: Tensor) -> Tensor:
    """Weights [n] of argmax_d min_i g_i'd with |d - g0| <= reach |g0| and g0 the mean gradient.

    d = J'(u + z) with u the mean weights. For the multiplier m of the worst case, z is
    argmin 1/2 z'Kz + (Ku - m)'z, z >= 0, and m is where z'Kz = reach^2 u'Ku; z grows with m.
    A single objective has no conflict to avoid, and is followed as it is.
    """
    matrix, u = regular(K, there), mean_weights(there)
    slope = matrix @ u
    radius = reach * (there.sum() > 1) * (u @ slope).clamp_min(0).sqrt()
    w = shortest(K, there)
    low = torch.where(there, slope, torch.inf).min()
    high = torch.where(there, slope, -torch.inf).max() + radius * (w @ matrix @ w).sqrt()
    matrices = matrix.expand(CANDIDATES, -1, -1)
    grid = torch.linspace(0, 1, CANDIDATES, dtype=K.dtype, device=K.device)
    z = torch.zeros_like(u)
    for _ in range(ROUNDS):
        m = low + (high - low) * grid
        q = torch.where(there, slope - m[:, None], 0.0)
        candidates = torch.where(there, non_negative_qp(matrices, q, torch.zeros_like(q)), 0.0)
        length = ((candidates @ matrix) * candidates).sum(1).clamp_min(0).sqrt()
        below = ((length <= radius).sum() - 1).clamp(0, CANDIDATES - 2)
        pair = below + torch.arange(2, device=K.device)
        low, high = take_rows(m, pair)  # m[below] would ask the device for the number
        z = take_rows(candidates, pair)[1] * ratio_or_zero(radius, take_rows(length, pair)[1])
    return u + z


def cagrad(reach: float) -> Method:
    """reach 0 is the mean of all gradients; a large one comes near MGDA."""
    require(reach >= 0, "method.reach", "non-negative", reach)

    def init(setting: MethodSetup) -> Reach:
        return Reach(setting.params.new_tensor(reach))

    def align(gradients: Gradients, state: Reach) -> tuple[Tensor, Reach]:
        J, K, there = gram(gradients)
        return averse(K, there, state.reach.double()).to(J.dtype) @ J, state

    return Method(align, references="per_task", init=init)
