"""PCGrad: project each gradient off those it conflicts with, in turn (Yu et al. 2020, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.methods.gradvac import vaccinate
from gradalign_cli.methods.method import Method
from gradalign_cli.methods.weighing import weighing


def surgery(K: Tensor, there: Tensor, uniform: Tensor) -> Tensor:
    """Weights [n] of the mean of the projected gradients, for a Gram matrix [n, n].

    The projection brings a negative cosine to 0, as GradVac does with targets that stay at 0. The
    paper adds the gradients up, which is another step size.
    """
    return vaccinate(K, there, uniform, torch.zeros_like(K), K.new_zeros(()))[0]


def pcgrad() -> Method:
    """Each objective meets the others in a random order."""
    return weighing(surgery, random=True)
