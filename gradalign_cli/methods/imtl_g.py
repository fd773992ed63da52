"""IMTL-G: the combination whose projection on every gradient is the same (Liu et al. 2021)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, weighted_sum_method
from gradalign_cli.numerics.spectral import eigh, pseudo_inverse_eigenvalues


def impartial_weights(K: Tensor, available: Tensor, uniform: Tensor | None = None) -> Tensor:
    """The weights w [n], 1 in total, with (Kw)_i / |g_i| the same for all i, for a Gram matrix
    K [n, n]: the pseudo-inverse of K times the norms |g_i|, scaled.

    Where these numbers sum to 0, the weights are those of the mean.
    """
    eigenvalues, eigenvectors = eigh(K)
    threshold = len(K) * torch.finfo(K.dtype).eps * eigenvalues[-1]
    inverse = pseudo_inverse_eigenvalues(eigenvalues, threshold)
    v = eigenvectors @ (inverse * (eigenvectors.T @ K.diagonal().clamp_min(0).sqrt()))
    v = torch.where(available, v, 0.0)
    total = v.sum()
    sums_to_zero = total.abs() <= 1e-12 * v.abs().sum()
    scaled = v / torch.where(sums_to_zero, 1.0, total)
    return torch.where(sums_to_zero, mean_weights(available), scaled)


def imtl_g() -> Method:
    """The direction with equal projections on the gradients of all objectives, by the closed form
    of eq. 6; weights may be negative."""
    return weighted_sum_method(impartial_weights)
