"""Nash-MTL: the Nash bargaining solution of the objectives (Navon et al. 2022)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    EPS,
    mean_weights,
    norms_and_cosines,
    weighted_sum_method,
    with_ridge,
)
from gradalign_cli.numerics.vectors import ratio_or_zero

NEWTON_STEPS = 40


def bargaining_weights(
    K: Tensor,
    available_objectives: Tensor,
    _random_numbers: Tensor | None = None,
    _gradient_dtype_eps: float = EPS,
) -> Tensor:
    """Weights [n], 1 in total, proportional to the a > 0 with K a = 1 / a (claim 3.1), for a Gram
    matrix K [n, n].

    For gradients of length 1, with the cosines C, this a minimises the strictly convex function
    a' C a / 2 - sum log a. Newton steps are damped by 1 / (1 + Newton decrement), which converges
    from any start for such a function. Objectives whose gradient is 0 have the weight 0; where all
    gradients are 0, the weights are those of the mean.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    matrix, a = with_ridge(cosines), torch.ones_like(norms)
    for _ in range(NEWTON_STEPS):
        gradient = matrix @ a - 1 / a
        step = torch.linalg.solve_ex(matrix + torch.diag(a**-2), gradient)[0]
        a = a - step / (1 + (gradient @ step).clamp_min(0).sqrt())
    weights = ratio_or_zero(a, norms)
    return torch.where(
        (norms > 0).any(), ratio_or_zero(weights, weights.sum()), mean_weights(available_objectives)
    )


def nash_mtl() -> Method:
    """The Nash bargaining solution: no other direction gives an objective a relative gain larger
    than the sum of the relative losses of the others.

    The paper's direction is the solution itself, whose length is sqrt(n) for any gradients. Here
    the weights sum to 1, so that the step size keeps its meaning and a single objective is followed
    along its gradient.
    """
    return weighted_sum_method(bargaining_weights)
