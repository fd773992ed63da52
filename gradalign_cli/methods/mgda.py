"""MGDA: the shortest convex combination of the gradients (Desideri 2012; Sener & Koltun 2018)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    lower_bounded_minimiser,
    regularised_gram,
    weighted_sum_method,
)
from gradalign_cli.numerics.vectors import ratio_or_zero


def min_norm_weights(K: Tensor, available: Tensor, uniform: Tensor | None = None) -> Tensor:
    """The weights w [n] >= 0, 1 in total, that minimise w'Kw for a Gram matrix K [n, n].

    v = argmin 1/2 v'Kv - sum(v), v >= 0 satisfies the same optimality conditions up to its length,
    so w is v over its sum.
    """
    lower = torch.zeros_like(K[0])
    v = lower_bounded_minimiser(regularised_gram(K, available), -available.to(K.dtype), lower)
    v = torch.where(available, v, 0.0)
    return ratio_or_zero(v, v.sum())


def mgda() -> Method:
    """The shortest convex combination of the gradients of the current and all earlier tasks.

    It hurts no objective, and is 0 where none can gain without a loss for another.
    """
    return weighted_sum_method(min_norm_weights)
