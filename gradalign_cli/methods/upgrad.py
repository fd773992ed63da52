"""UPGrad: each objective's gradient, projected so that it hurts no other (Quinton & Rey 2024)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    EPS,
    mean_weights,
    minimiser_above_bounds,
    norms_and_cosines,
    weighted_sum_method,
    with_ridge,
)
from gradalign_cli.numerics.vectors import ratio_or_zero


def dual_cone_weights(
    K: Tensor,
    available_objectives: Tensor,
    _random_numbers: Tensor | None = None,
    _gradient_dtype_eps: float = EPS,
) -> Tensor:
    """The weights [n] of the mean of all gradients' projections onto the dual cone, for a Gram
    matrix K [n, n].

    The projection of a gradient of length 1 has the weights argmin v'Cv for v >= e_i, with the
    cosines C, and that of a longer one is as many times longer.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    lower = torch.eye(len(K), dtype=K.dtype, device=K.device)
    matrices = with_ridge(cosines).expand(len(K), -1, -1)
    projections = minimiser_above_bounds(matrices, torch.zeros_like(lower), lower)  # row i: of g_i
    return ratio_or_zero((mean_weights(available_objectives) * norms) @ projections, norms)


def upgrad() -> Method:
    """The mean of the gradients of the current and all earlier tasks, each projected onto the
    directions that hurt no objective."""
    return weighted_sum_method(dual_cone_weights)._replace(claims=("hurts_no_reference",))
