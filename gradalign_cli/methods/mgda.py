"""MGDA: the shortest convex combination of the gradients (Desideri 2012; Sener & Koltun 2018)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import non_negative_qp, regular, weighing
from gradalign_cli.numerics.vectors import ratio_or_zero


def shortest(K: Tensor, there: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Weights [n] >= 0, 1 in total, that minimise w'Kw for a Gram matrix [n, n].

    v = argmin 1/2 v'Kv - sum(v), v >= 0 satisfies the same conditions as w up to its length.
    """
    zero = torch.zeros_like(K[0])
    v = non_negative_qp(regular(K, there), -there.to(K.dtype), zero)
    v = torch.where(there, v, 0.0)
    return ratio_or_zero(v, v.sum())


def mgda() -> Method:
    """It does not hurt any objective, and stands still where none can gain without a loss."""
    return weighing(shortest)
