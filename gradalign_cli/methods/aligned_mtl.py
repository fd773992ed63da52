"""Aligned-MTL: make the gradients orthogonal and equally long, then add (Senushkin et al. 2023)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, weighing
from gradalign_cli.numerics.spectral import eigen


def aligned(K: Tensor, there: Tensor, uniform: Tensor | None = None) -> Tensor:
    """sqrt(smallest eigenvalue) K^(-1/2) times the mean weights [n], for a Gram matrix [n, n]."""
    values, vectors = eigen(K)
    kept = values > len(K) * torch.finfo(K.dtype).eps * values[-1]
    smallest = torch.where(kept, values, torch.inf).min()
    root = torch.where(kept, (smallest / torch.where(kept, values, 1.0)).sqrt(), 0.0)
    weights: Tensor = vectors @ (root * (vectors.T @ mean_weights(there)))
    return weights


def aligned_mtl() -> Method:
    """The condition number of the gradients becomes 1, on the scale of the weakest direction."""
    return weighing(aligned)
