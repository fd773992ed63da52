"""The moments of gradients that Adam keeps, and its update (Kingma & Ba 2015, alg. 1)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """first, second: [P] running means of gradients and of their squares;  steps: [] how many
    gradients they are of."""

    first: Tensor
    second: Tensor
    steps: Tensor


def no_moments(params: Tensor) -> Moments:
    """The moments before the first gradient, for parameters [P]."""
    return Moments(torch.zeros_like(params), torch.zeros_like(params), params.new_zeros(()))


def adam_update(
    gradient: Tensor, moments: Moments, betas: tuple[float, float], eps: float
) -> tuple[Tensor, Moments]:
    """The first moment over the root of the second [P], without their bias towards 0, and the
    moments that include the gradient [P]."""
    (beta1, beta2), steps = betas, moments.steps + 1
    first = beta1 * moments.first + (1 - beta1) * gradient
    second = beta2 * moments.second + (1 - beta2) * gradient.square()
    root = (second / (1 - beta2**steps)).sqrt()
    return first / (1 - beta1**steps) / (root + eps), Moments(first, second, steps)
