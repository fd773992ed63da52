"""A-GEM: project out what hurts the mean memory gradient (Chaudhry et al. 2019, eq. 11)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.vectors import divide_by_largest_entry


def project(g: Tensor, r: Tensor) -> Tensor:
    """g - (g.r / r.r) r where g.r < 0, else g, for the gradients g [P] on the batch and r [P] on
    memory."""
    r = divide_by_largest_entry(r)  # so that r.r neither overflows nor vanishes
    tiny = torch.finfo(r.dtype).tiny  # for r = 0 the weight is 0 / tiny = 0, and g is returned
    weight = (r @ g).clamp_max(0) / (r @ r).clamp_min(tiny)
    return torch.addcmul(g, r, weight, value=-1)


def agem() -> Method:
    """The gradient on the batch, projected to be orthogonal to the gradient on a memory batch of
    all earlier tasks where their dot product is negative."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        return project(gradients.g, gradients.references[0]), state

    return Method(
        align,
        references="pooled",
        claims=("hurts_no_reference", "does_not_lengthen", "projects_orthogonally"),
        align_accepts_updates=True,
    )
