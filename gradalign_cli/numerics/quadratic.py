"""A small convex quadratic program with lower bounds, solved without branches on tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """v: [..., M] the minimiser;  residual: [...] how far v is from satisfying the KKT
    conditions."""

    v: Tensor
    residual: Tensor


def lower_bounded_qp(P: Tensor, q: Tensor, low: Tensor, pivots: int) -> Solution:
    """argmin_v 1/2 v'Pv + q'v subject to v >= low, for positive definite P [..., M, M] in float64.

    Block principal pivoting (Portugal, Judice & Vicente 1994): guess which bounds are active (those
    that push outwards at v = low), solve the rest, exchange all that are on the wrong side; when
    that does not lessen their number three times running, exchange only the last of them, which
    cannot cycle (Murty 1974). The residual is the largest of the violations of v >= low, of a
    non-negative multiplier, and of complementary slackness, after at most `pivots` exchanges.
    """
    return Solution(*operation(P, q, low, pivots))


def pivoting(P: Tensor, q: Tensor, low: Tensor, pivots: int) -> tuple[Tensor, Tensor]:
    """The minimiser and its residual; see `lower_bounded_qp`."""
    size = q.shape[-1]
    eye = torch.eye(size, dtype=P.dtype, device=P.device)
    places = torch.arange(size, device=P.device)

    def times(v: Tensor) -> Tensor:
        return (P @ v[..., None])[..., 0]

    def solve(free: Tensor) -> Tensor:
        fixed = torch.where(free, 0.0, low)
        matrix = torch.where(free[..., None] & free[..., None, :], P, eye)
        right = torch.where(free, -q - times(fixed), fixed)
        found: Tensor = torch.linalg.solve_ex(matrix, right)[0]
        return found

    largest = low.abs().amax(-1, keepdim=True)
    scale = q.abs().amax(-1, keepdim=True) + P.abs().amax((-2, -1))[..., None] * (1 + largest)
    tolerance = 1e-12 * scale.clamp_min(torch.finfo(P.dtype).tiny)
    free = times(low) + q < 0
    fewest = torch.full_like(q[..., :1], size + 1)
    patience = torch.full_like(fewest, 3)
    v = solve(free)
    for _ in range(pivots):
        multiplier = times(v) + q
        wrong = torch.where(free, v < low - tolerance, multiplier < -tolerance)
        # looking at a tensor costs nothing on a CPU; elsewhere it would wait for the device, and
        # a captured step must not depend on it
        if wrong.is_cpu and not wrong.any():
            break
        count = wrong.sum(-1, keepdim=True).to(fewest.dtype)
        better = count < fewest
        fewest = torch.minimum(count, fewest)
        patience = torch.where(better, 3.0, patience - 1)
        last = places == torch.where(wrong, places, -1).amax(-1, keepdim=True)
        free = free ^ torch.where(patience > 0, wrong, wrong & last)
        v = solve(free)
    multiplier = times(v) + q
    gap = torch.minimum(v - low, multiplier / scale)
    return v, torch.maximum((low - v).amax(-1), gap.abs().amax(-1))


# one operation, so that under vmap and in a recorded step too the pivots end once all are solved
operation = torch.library.custom_op("gradalign::pivoting", mutates_args=())(pivoting)


@operation.register_vmap
def batched(
    info: Any, in_dims: Sequence[int | None], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """All programs of a batch at once."""
    *tensors, pivots = arguments
    moved = [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]
    return operation(*moved, pivots), (0, 0)
