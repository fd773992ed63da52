"""IMTL-G: the combination whose projection on every gradient is the same (Liu et al. 2021)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    EPS,
    mean_weights,
    norms_and_cosines,
    weighted_sum_method,
)
from gradalign_cli.numerics.spectral import eigh, pseudo_inverse_eigenvalues
from gradalign_cli.numerics.vectors import ratio_or_zero


def impartial_weights(
    K: Tensor,
    available_objectives: Tensor,
    _random_numbers: Tensor | None = None,
    gradient_dtype_eps: float = EPS,
) -> Tensor:
    """The weights w [n], 1 in total, with (Kw)_i / |g_i| the same for all i, for a Gram matrix
    K [n, n] (closed form of eq. 6).

    w_i = v_i / |g_i| with C v = 1 for the cosines C, by the pseudo-inverse where gradients are
    dependent. Where the weights would sum to 0, they are those of the mean.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    eigenvalues, eigenvectors = eigh(cosines)
    inverse = pseudo_inverse_eigenvalues(eigenvalues, len(K) * gradient_dtype_eps)
    v = eigenvectors @ (inverse * (eigenvectors.T @ (norms > 0).to(K.dtype)))
    w = ratio_or_zero(v, norms)
    total = w.sum()
    sums_to_zero = total.abs() <= 1e-12 * w.abs().sum()
    scaled = w / torch.where(sums_to_zero, 1.0, total)
    return torch.where(sums_to_zero, mean_weights(available_objectives), scaled)


def imtl_g() -> Method:
    """The direction with equal projections on the gradients of all objectives, by the closed form
    of eq. 6; weights may be negative."""
    return weighted_sum_method(impartial_weights)
