"""IMTL-G: the combination whose projection on every gradient is the same (Liu et al. 2021)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, weighing
from gradalign_cli.numerics.spectral import eigen, inverses


def impartial(K: Tensor, there: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Weights [n], 1 in total, with (Kw)_i / |g_i| the same for all i: K^+ norms, scaled.

    Where they would sum to 0, the mean is taken.
    """
    values, vectors = eigen(K)
    inverse = inverses(values, len(K) * torch.finfo(K.dtype).eps * values[-1])
    v = vectors @ (inverse * (vectors.T @ K.diagonal().clamp_min(0).sqrt()))
    v = torch.where(there, v, 0.0)
    total = v.sum()
    lost = total.abs() <= 1e-12 * v.abs().sum()
    return torch.where(lost, mean_weights(there), v / torch.where(lost, 1.0, total))


def imtl_g() -> Method:
    """Closed form of eq. 6; weights may be negative."""
    return weighing(impartial)
