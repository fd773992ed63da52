"""PCGrad: project each gradient off those it conflicts with, in turn (Yu et al. 2020, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.methods.gradvac import vaccine_weights
from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import EPS, weighted_sum_method


def surgery_weights(
    K: Tensor,
    available_objectives: Tensor,
    random_numbers: Tensor,
    _gradient_dtype_eps: float = EPS,
) -> Tensor:
    """The weights [n] of the mean of the projected gradients, for a Gram matrix K [n, n] and random
    numbers [n, n] that give the order of the projections.

    The projection raises a negative cosine to 0, which is what GradVac does with all target cosines
    at 0. The paper adds the projected gradients up instead of taking their mean, which is another
    step size.
    """
    weights, _ = vaccine_weights(
        K, available_objectives, random_numbers, torch.zeros_like(K), K.new_zeros(())
    )
    return weights


def pcgrad() -> Method:
    """The mean of the gradients of the current and all earlier tasks, each projected off those that
    it conflicts with, in a random order."""
    return weighted_sum_method(surgery_weights, needs_random_numbers=True)
