"""Nash-MTL: the bargaining solution of the objectives (Navon et al. 2022)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, regular, weighing

NEWTON_STEPS = 40


def bargained(K: Tensor, there: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Weights [n], 1 in total, proportional to the a > 0 with K a = 1 / a (claim 3.1).

    That a is where the strictly convex a' K a / 2 - sum log a is least. Newton's steps are damped
    by 1 / (1 + decrement), which reaches the minimum of such a function from anywhere.
    Objectives whose gradient is 0 bargain for nothing; where none is left, the mean is taken.
    """
    bargains = there & (K.diagonal() > 0)
    asked = bargains | ~bargains.any()
    # scaled to a diagonal of ones, so that the length of a gradient does not turn the direction
    scale = torch.where(bargains, K.diagonal(), 1.0).rsqrt()
    A = regular(K * scale * scale[:, None], asked)
    a = torch.ones_like(scale)
    for _ in range(NEWTON_STEPS):
        gradient = A @ a - 1 / a
        step = torch.linalg.solve_ex(A + torch.diag(a**-2), gradient)[0]
        a = a - step / (1 + (gradient @ step).clamp_min(0).sqrt())
    weights = torch.where(bargains, scale * a, 0.0)
    found = weights / weights.sum().clamp_min(torch.finfo(K.dtype).tiny)
    return torch.where(bargains.any(), found, mean_weights(there))


def nash_mtl() -> Method:
    """The direction that no objective could better for itself at a smaller relative loss of others.

    The paper follows the solution itself, whose length is sqrt(n) whatever the gradients; here the
    weights sum to 1, so that the step size keeps its meaning and one objective gives its gradient.
    """
    return weighing(bargained)
