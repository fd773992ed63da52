"""eps-SOFT-GEM: A-GEM with a positive lower bound on the dot product (Hu et al. 2020, arXiv
2011.07801)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.vectors import divide_by_largest_entry, ratio_or_zero


class EpsSoftGEMState(NamedTuple):
    """eps: [] the lower bound on the dot product with the reference, relative to |g| |r|."""

    eps: Tensor


def raise_dot_product(g: Tensor, r: Tensor, eps: Tensor) -> Tensor:
    """The vector nearest to g [P] whose dot product with r [P] is at least eps |g| |r|.

    This is g - (cos - eps) |g| r / |r| where the cosine of g and r is below eps, else g. The rule
    is our reading of the paper's program for gradients of length 1; no published code was found.
    """
    r = divide_by_largest_entry(r)  # its length does not matter, and must not overflow or vanish
    r_norm = r.norm()
    g_norm = divide_by_largest_entry(g).norm() * g.abs().amax()
    gap = ratio_or_zero(g @ r, r_norm) - eps * g_norm
    return torch.addcmul(g, r, torch.where(gap < 0, ratio_or_zero(gap, r_norm), 0.0), value=-1)


def eps_soft_gem(eps: float) -> Method:
    """The vector d nearest to g with d.r >= eps |g| |r|, r the gradient on a memory batch of all
    earlier tasks.

    With eps 0 this is A-GEM; the larger eps is, the more of the reference is added.
    """
    require(0 <= eps <= 1, "method.eps", "in [0, 1]", eps)

    def init(setup: MethodSetup) -> EpsSoftGEMState:
        return EpsSoftGEMState(setup.params.new_tensor(eps))

    def align(gradients: Gradients, state: EpsSoftGEMState) -> tuple[Tensor, EpsSoftGEMState]:
        return raise_dot_product(gradients.g, gradients.references[0], state.eps), state

    return Method(
        align,
        references="pooled",
        init=init,
        claims=("hurts_no_reference",),
        align_accepts_updates=True,
    )
