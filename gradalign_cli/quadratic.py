"""A small convex quadratic program with lower bounds, solved without branches on tensors."""

from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """v: [M] the minimiser;  residual: [] how far v is from satisfying the KKT conditions."""

    v: Tensor
    residual: Tensor


def lower_bounded_qp(P: Tensor, q: Tensor, low: Tensor, pivots: int) -> Solution:
    """argmin_v 1/2 v'Pv + q'v subject to v >= low, for positive definite P [M, M] in float64.

    Block principal pivoting (Portugal, Judice & Vicente 1994): guess which bounds are active, solve
    the rest, exchange all that are on the wrong side; when that does not lessen their number three
    times running, exchange only the last of them, which cannot cycle (Murty 1974). The number of
    pivots is fixed, so that the step can be captured and batched. The residual is the largest of
    the violations of v >= low, of a non-negative multiplier, and of complementary slackness.
    """
    size = len(q)
    eye = torch.eye(size, dtype=P.dtype, device=P.device)
    places = torch.arange(size, device=P.device)

    def solve(free: Tensor) -> Tensor:
        fixed = torch.where(free, 0.0, low)
        matrix = torch.where(free[:, None] & free, P, eye)
        found: Tensor = torch.linalg.solve_ex(matrix, torch.where(free, -q - P @ fixed, fixed))[0]
        return found

    scale = q.abs().max() + P.abs().max() * (1 + low.abs().max())
    tolerance = 1e-12 * scale.clamp_min(torch.finfo(P.dtype).tiny)
    free = torch.ones(size, dtype=torch.bool, device=P.device)
    fewest = torch.full((), size + 1, device=P.device)
    patience = torch.full((), 3, device=P.device)
    v = solve(free)
    for _ in range(pivots):
        multiplier = P @ v + q
        wrong = torch.where(free, v < low - tolerance, multiplier < -tolerance)
        count = wrong.sum()
        better = count < fewest
        fewest = torch.minimum(count, fewest)
        patience = torch.where(better, 3, patience - 1)
        last = places == torch.where(wrong, places, -1).max()
        free = free ^ torch.where(patience > 0, wrong, wrong & last)
        v = solve(free)
    multiplier = P @ v + q
    gap = torch.minimum(v - low, multiplier / scale)
    residual = torch.maximum((low - v).max(), gap.abs().max())
    return Solution(v, residual)
