"""Aligned-MTL: make the gradients orthogonal and equally long, then add (Senushkin et al. 2023)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    EPS,
    independent_gradient_count,
    mean_weights,
    norms_and_cosines,
    weighted_sum_method,
)
from gradalign_cli.numerics.spectral import eigh


def alignment_weights(
    K: Tensor,
    available_objectives: Tensor,
    _random_numbers: Tensor | None = None,
    gradient_dtype_eps: float = EPS,
) -> Tensor:
    """sqrt(least) K^(-1/2) u [n] for a Gram matrix K [n, n], with `least` its smallest positive
    eigenvalue, K^(-1/2) a pseudo-inverse and u the mean weights of the available objectives [n].

    As many eigenvalues count as positive as there are linearly independent gradients.
    """
    norms, cosines = norms_and_cosines(K, available_objectives)
    rank = independent_gradient_count(cosines, gradient_dtype_eps) - (norms == 0).sum()
    # with the shortest gradients first, LAPACK finds small eigenvalues to their own precision
    order = norms.argsort()
    eigenvalues, sorted_eigenvectors = eigh(K[order][:, order])
    eigenvectors = sorted_eigenvectors[order.argsort()]
    eigenvalues = eigenvalues.clamp_min(0)
    positive = torch.arange(len(K), device=K.device) >= len(K) - rank  # they ascend
    least = torch.where(positive, eigenvalues, torch.inf).min()
    scales = torch.where(positive, (least / torch.where(positive, eigenvalues, 1.0)).sqrt(), 0.0)
    weights: Tensor = eigenvectors @ (
        scales * (eigenvectors.T @ mean_weights(available_objectives))
    )
    return weights


def aligned_mtl() -> Method:
    """The mean of the gradients of all tasks, after they are made orthogonal and equally long.

    The condition number of the gradients becomes 1, on the scale of the weakest direction.
    """
    return weighted_sum_method(alignment_weights)
