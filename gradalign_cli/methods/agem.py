"""A-GEM: project out what hurts the mean memory gradient (Chaudhry et al. 2019, eq. 11)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method, guarded_ratio


def agem() -> Method:
    """g - (g.r / r.r) r when g.r < 0, else g, for the gradient r of a batch of earlier tasks."""

    def align(g: Tensor, refs: Tensor, seen: Tensor, state: Any) -> tuple[Tensor, Any]:
        r = refs[0]
        dot = r @ g
        scale = torch.where((dot < 0) & seen[0], guarded_ratio(dot, r @ r), 0.0)
        return torch.addcmul(g, r, scale, value=-1), state

    return Method(align, references="pooled")
