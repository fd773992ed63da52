"""UPGrad: each objective's gradient, projected so that it hurts no other (Quinton & Rey 2024)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import mean_weights, non_negative_qp, regular, weighing


def unconflicting(K: Tensor, there: Tensor, uniform: Tensor | None = None) -> Tensor:
    """The mean of the projections of all gradients onto the dual cone, as weights [n].

    The projection of gradient i has the weights argmin v'Kv for v >= e_i. It is found for gradients
    of length 1, as the solver's ridge would weigh heavily on one much shorter than the others.
    """
    size = K.diagonal().clamp_min(0).sqrt()
    size = torch.where(size > 0, size, 1.0)
    low = torch.diag(mean_weights(there) * size)
    matrices = regular(K / (size[:, None] * size), there).expand(len(K), -1, -1)
    return non_negative_qp(matrices, torch.zeros_like(low), low).sum(0) / size


def upgrad() -> Method:
    """No objective is hurt, and each counts in proportion to its gradient."""
    return weighing(unconflicting)
