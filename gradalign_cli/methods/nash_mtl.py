"""Nash-MTL: the Nash bargaining solution of the objectives (Navon et al. 2022)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, regularised_gram, weighted_sum_method

NEWTON_STEPS = 40


def bargaining_weights(K: Tensor, available: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Weights [n], 1 in total, proportional to the a > 0 with K a = 1 / a (claim 3.1), for a Gram
    matrix K [n, n].

    This a minimises the strictly convex function a' K a / 2 - sum log a. Newton steps are damped by
    1 / (1 + Newton decrement), which converges from any start for such a function. Objectives whose
    gradient is 0 have the weight 0; where all gradients are 0, the weights are those of the mean.
    """
    bargains = available & (K.diagonal() > 0)
    in_system = bargains | ~bargains.any()
    # the Gram matrix is scaled to a diagonal of ones, so that the lengths of the gradients do not
    # affect the precision of the direction
    scale = torch.where(bargains, K.diagonal(), 1.0).rsqrt()
    A = regularised_gram(K * scale * scale[:, None], in_system)
    a = torch.ones_like(scale)
    for _ in range(NEWTON_STEPS):
        gradient = A @ a - 1 / a
        step = torch.linalg.solve_ex(A + torch.diag(a**-2), gradient)[0]
        a = a - step / (1 + (gradient @ step).clamp_min(0).sqrt())
    weights = torch.where(bargains, scale * a, 0.0)
    weights = weights / weights.sum().clamp_min(torch.finfo(K.dtype).tiny)
    return torch.where(bargains.any(), weights, mean_weights(available))


def nash_mtl() -> Method:
    """The Nash bargaining solution: no other direction gives an objective a relative gain larger
    than the sum of the relative losses of the others.

    The paper's direction is the solution itself, whose length is sqrt(n) for any gradients. Here
    the weights sum to 1, so that the step size keeps its meaning and a single objective is followed
    along its gradient.
    """
    return weighted_sum_method(bargaining_weights)
