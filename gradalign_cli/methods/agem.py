"""A-GEM: project out what hurts the mean memory gradient (Chaudhry et al. 2019, eq. 11)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method


def project(g: Tensor, r: Tensor) -> Tensor:
    """g - (g.r / r.r) r when g.r < 0, else g, for gradients [P] of the batch and of a memory."""
    tiny = torch.finfo(r.dtype).tiny  # r = 0 has no direction to project on: 0 / tiny = 0
    scale = (r @ g).clamp_max(0) / (r @ r).clamp_min(tiny)
    return torch.addcmul(g, r, scale, value=-1)


def agem() -> Method:
    """Project against the gradient of a batch of all earlier tasks."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        return project(gradients.g, gradients.references[0]), state

    return Method(align, references="pooled")
