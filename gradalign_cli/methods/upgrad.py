"""UPGrad: each objective's gradient, projected so that it hurts no other (Quinton & Rey 2024)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import (
    lower_bounded_minimiser,
    mean_weights,
    regularised_gram,
    weighted_sum_method,
)


def dual_cone_weights(K: Tensor, available: Tensor, uniform: Tensor | None = None) -> Tensor:
    """The weights [n] of the mean of all gradients' projections onto the dual cone, for a Gram
    matrix K [n, n].

    The projection of gradient i has the weights argmin v'Kv for v >= e_i. The gradients are scaled
    to length 1 first: the solver's ridge would distort a gradient much shorter than the others.
    """
    norms = K.diagonal().clamp_min(0).sqrt()
    norms = torch.where(norms > 0, norms, 1.0)
    lower = torch.diag(mean_weights(available) * norms)
    cosines = regularised_gram(K / (norms[:, None] * norms), available).expand(len(K), -1, -1)
    return lower_bounded_minimiser(cosines, torch.zeros_like(lower), lower).sum(0) / norms


def upgrad() -> Method:
    """The mean of the gradients of the current and all earlier tasks, each projected onto the
    directions that hurt no objective."""
    return weighted_sum_method(dual_cone_weights)
