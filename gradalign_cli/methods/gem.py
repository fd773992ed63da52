"""GEM: the nearest direction that hurts no earlier task (Lopez-Paz & Ranzato 2017, eq. 8-11)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.quadratic import lower_bounded_qp

PIVOTS = 24  # random problems need up to 8, nearly singular ones with a margin more than 16
TOLERANCE = 1e-6  # largest KKT residual of a problem that counts as solved


class GEMState(NamedTuple):
    """margin, eps: [];  unsolved: [] how many problems were left with too large a residual."""

    margin: Tensor
    eps: Tensor
    unsolved: Tensor


def gem(margin: float, eps: float, scaled: bool) -> Method:
    """g + G'v with v = argmin 1/2 v'(GG' + eps I)v + (Gg)'v, v >= margin, if any (Gg)_t < 0.

    G holds the gradients of all earlier tasks. `margin` (gamma, "memory strength") is a floor of
    the dual variables, as in the published code. There eps is 0.001 whatever the size of the
    gradients; `scaled` multiplies it by the mean of the diagonal of GG', so that its weight is the
    same for large and small gradients.
    """
    require(margin >= 0, "method.margin", "non-negative", margin)
    require(eps > 0, "method.eps", "positive", eps)

    def init(setting: MethodSetup) -> GEMState:
        return GEMState(
            setting.params.new_tensor(margin),
            setting.params.new_tensor(eps),
            setting.params.new_zeros(()),
        )

    def align(gradients: Gradients, state: GEMState) -> tuple[Tensor, GEMState]:
        g, refs, seen = gradients.g, gradients.references, gradients.available
        gram = torch.where(seen[:, None] & seen, refs @ refs.T, 0.0).double()
        dots = torch.where(seen, refs @ g, 0.0).double()
        conflict = (dots < 0).any()
        ridge = state.eps.double() * (gram.diagonal().mean() if scaled else 1.0)
        size = (gram.diagonal().max() + ridge).clamp_min(1e-300)
        eye = torch.eye(len(refs), dtype=gram.dtype, device=gram.device)
        P = (gram + ridge * eye) / size  # the minimiser does not change with the scale
        P = torch.where(seen[:, None], P, eye)
        low = torch.where(seen, state.margin.double(), 0.0)
        v, residual = lower_bounded_qp(P, dots / size, low, PIVOTS)
        direction = g + torch.where(conflict, v, 0.0).to(g.dtype) @ refs
        unsolved = state.unsolved + (conflict & ~(residual < TOLERANCE))
        return direction, state._replace(unsolved=unsolved)

    def report(state: GEMState) -> dict[str, Tensor]:
        return {"unsolved": state.unsolved}

    return Method(align, references="per_task", init=init, report=report)
