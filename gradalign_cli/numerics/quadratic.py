"""A small convex quadratic program with lower bounds, solved without branches on tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

CPU_PIVOTS = 100_000  # far more than dependent rows of 50 references need, some hundreds
TOLERANCE = 1e-12  # a smaller violation, relative to the size of the data, is rounding


class Solution(NamedTuple):
    """minimiser: [..., M];  kkt_residual: [...] the largest violation of a KKT condition."""

    minimiser: Tensor
    kkt_residual: Tensor


def lower_bounded_qp(P: Tensor, q: Tensor, lower_bounds: Tensor, max_gpu_pivots: int) -> Solution:
    """argmin_v 1/2 v'Pv + q'v subject to v >= lower_bounds, in float64.

    P: [..., M, M] positive definite;  q, lower_bounds: [..., M].

    Block principal pivoting (Portugal, Judice & Vicente 1994): guess which bounds are active (those
    whose multiplier is not negative at its bound), solve for the other entries of v, and exchange
    all bounds that violate a condition. Once the number of violations has missed a new minimum
    three times in a row, exchange only the last of them, which cannot cycle (Murty 1974). The
    residual, after at most `max_gpu_pivots` exchanges on a device that cannot stop early and as
    many as it takes on a CPU, is the largest violation of a bound, of a non-negative multiplier and
    of complementary slackness, relative to the sizes that v and its multipliers have for these
    data.
    """
    return Solution(*pivoting_operation(P, q, lower_bounds, max_gpu_pivots))


def solve_by_pivoting(
    P: Tensor, q: Tensor, lower_bounds: Tensor, max_gpu_pivots: int
) -> tuple[Tensor, Tensor]:
    """The minimiser and its residual, see `lower_bounded_qp`."""
    size = q.shape[-1]
    eye = torch.eye(size, dtype=P.dtype, device=P.device)
    indices = torch.arange(size, device=P.device)

    def product(v: Tensor) -> Tensor:
        """P v [..., M]."""
        return (P @ v[..., None])[..., 0]

    def solve(free: Tensor) -> Tensor:
        """v with its gradient 0 where `free`, and at the lower bound elsewhere."""
        fixed = torch.where(free, 0.0, lower_bounds)
        matrix = torch.where(free[..., None] & free[..., None, :], P, eye)
        right_side = torch.where(free, -q - product(fixed), fixed)
        solution: Tensor = torch.linalg.solve_ex(matrix, right_side)[0]
        return solution

    tiny, largest_q = torch.finfo(P.dtype).tiny, q.abs().amax(-1, keepdim=True)
    # how large v and its multipliers are, so that the solution of scaled data is scaled
    diagonal = P.diagonal(dim1=-2, dim2=-1)
    v_scale = lower_bounds.abs().amax(-1, keepdim=True) + (q / diagonal).abs().amax(
        -1, keepdim=True
    )
    multiplier_scale = P.abs().amax((-2, -1))[..., None] * v_scale + largest_q
    v_scale, multiplier_scale = v_scale.clamp_min(tiny), multiplier_scale.clamp_min(tiny)
    free = product(lower_bounds) + q < 0
    fewest_violations = torch.full_like(q[..., :1], size + 1)
    patience = torch.full_like(fewest_violations, 3)
    v = solve(free)
    for _ in range(CPU_PIVOTS if P.is_cpu else max_gpu_pivots):
        multiplier = product(v) + q
        violated = torch.where(
            free, v < lower_bounds - TOLERANCE * v_scale, multiplier < -TOLERANCE * multiplier_scale
        )
        # on a CPU, reading a tensor's value costs nothing; on a GPU it would wait for the device,
        # and a captured step must not depend on it
        if violated.is_cpu and not violated.any():
            break
        violations = violated.sum(-1, keepdim=True).to(fewest_violations.dtype)
        fewer = violations < fewest_violations
        fewest_violations = torch.minimum(violations, fewest_violations)
        patience = torch.where(fewer, 3.0, patience - 1)
        last = indices == torch.where(violated, indices, -1).amax(-1, keepdim=True)
        free = free ^ torch.where(patience > 0, violated, violated & last)
        v = solve(free)
    multiplier = (product(v) + q) / multiplier_scale
    excess = (v - lower_bounds) / v_scale
    slackness = torch.minimum(excess, multiplier)
    return v, torch.maximum(-excess.amin(-1), slackness.abs().amax(-1))


# One operation for PyTorch, so that under vmap and in a recorded step, too, pivoting ends once all
# programs are solved.
pivoting_operation = torch.library.custom_op("gradalign::pivoting", mutates_args=())(
    solve_by_pivoting
)


@pivoting_operation.register_vmap
def solve_programs_batched(
    info: Any, in_dims: Sequence[int | None], *operation_arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """The rule for vmap: all programs of the batch in one call."""
    *tensors, max_gpu_pivots = operation_arguments
    batched = [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]
    return pivoting_operation(*batched, max_gpu_pivots), (0, 0)
