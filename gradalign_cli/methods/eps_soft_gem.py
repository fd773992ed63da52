"""eps-SOFT-GEM: A-GEM that demands more than no harm (Hu et al. 2020, arXiv 2011.07801)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.vectors import ratio_or_zero


class EpsState(NamedTuple):
    """eps: [] the least cosine."""

    eps: Tensor


def soften(g: Tensor, r: Tensor, eps: Tensor) -> Tensor:
    """The nearest to g whose product with r is at least eps |g| |r|, for gradients [P].

    This is g - (cos - eps) |g| r / |r| where the cosine of g and r is below eps, else g. The rule
    is our reading of the paper's program for gradients of length 1; no published code was found.
    """
    size = r.norm()
    gap = ratio_or_zero(g @ r, size) - eps * g.norm()
    return torch.addcmul(g, r, torch.where(gap < 0, ratio_or_zero(gap, size), 0.0), value=-1)


def eps_soft_gem(eps: float) -> Method:
    """With eps 0 it is A-GEM; the larger eps, the more of the reference is added."""
    require(0 <= eps <= 1, "method.eps", "in [0, 1]", eps)

    def init(setting: MethodSetup) -> EpsState:
        return EpsState(setting.params.new_tensor(eps))

    def align(gradients: Gradients, state: EpsState) -> tuple[Tensor, EpsState]:
        return soften(gradients.g, gradients.references[0], state.eps), state

    return Method(align, references="pooled", init=init)
