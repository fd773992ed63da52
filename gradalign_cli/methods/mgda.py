"""MGDA: the shortest convex combination of the gradients (Desideri 2012; Sener & Koltun 2018)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    EPS,
    minimiser_above_bounds,
    norms_and_cosines,
    weighted_sum_method,
    with_ridge,
)
from gradalign_cli.numerics.vectors import ratio_or_zero


def min_norm_weights(
    K: Tensor,
    available_objectives: Tensor,
    _random_numbers: Tensor | None = None,
    _gradient_dtype_eps: float = EPS,
) -> Tensor:
    """The weights w [n] >= 0, 1 in total, that minimise w'Kw for a Gram matrix K [n, n].

    v = argmin 1/2 v'Kv - sum(v), v >= 0 satisfies the same optimality conditions up to its length,
    so w is v over its sum. It is found for gradients of length 1: y = |g_i| v_i minimises
    1/2 y'Cy - sum(y_i / |g_i|) with the cosines C. A gradient of length 0 takes all the weight.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    is_zero = available_objectives & (norms == 0)
    inverse_norms = torch.where(norms > 0, 1 / torch.where(norms > 0, norms, 1.0), 0.0)
    inverse_norms = ratio_or_zero(inverse_norms, inverse_norms.max())  # the scale of y is free
    y = minimiser_above_bounds(with_ridge(cosines), -inverse_norms, torch.zeros_like(norms))
    v = torch.where(is_zero.any(), is_zero.to(K.dtype), y * inverse_norms)
    return ratio_or_zero(v, v.sum())


def mgda() -> Method:
    """The shortest convex combination of the gradients of the current and all earlier tasks.

    It hurts no objective, and is 0 where none can gain without a loss for another.
    """
    return weighted_sum_method(min_norm_weights)._replace(claims=("hurts_no_reference",))
