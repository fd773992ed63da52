"""GEM: the nearest direction that hurts no earlier task (Lopez-Paz & Ranzato 2017, eq. 8-11)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.quadratic import lower_bounded_qp

MAX_PIVOTS = 24  # random problems need up to 8, nearly singular ones with a margin more than 16
TOLERANCE = 1e-6  # largest KKT residual of a problem that counts as solved


class GEMState(NamedTuple):
    """margin, eps: [] hyper-parameters;  unsolved: [] number of problems whose KKT residual stayed
    above the tolerance."""

    margin: Tensor
    eps: Tensor
    unsolved: Tensor


def gem(margin: float, eps: float, scaled: bool) -> Method:
    """g + G'v with v = argmin 1/2 v'(GG' + eps I)v + (Gg)'v, v >= margin, if any (Gg)_t < 0, else
    g. The rows of G are the gradients of all earlier tasks.

    margin: a lower bound on the dual variables (gamma, "memory strength"), as in the published
    code.
    eps: added to the diagonal. The published code has 0.001, for gradients of any size.
    scaled: whether eps is multiplied by the mean of the diagonal of GG', so that its effect does
    not depend on the size of the gradients.
    """
    require(margin >= 0, "method.margin", "non-negative", margin)
    require(eps > 0, "method.eps", "positive", eps)

    def init(setup: MethodSetup) -> GEMState:
        number = setup.params.new_tensor
        return GEMState(number(margin), number(eps), setup.params.new_zeros(()))

    def align(gradients: Gradients, state: GEMState) -> tuple[Tensor, GEMState]:
        g, G, available = gradients.g, gradients.references, gradients.available
        gram = torch.where(available[:, None] & available, G @ G.T, 0.0).double()
        dot_products = torch.where(available, G @ g, 0.0).double()
        conflict = (dot_products < 0).any()
        ridge = state.eps.double() * (gram.diagonal().mean() if scaled else 1.0)
        scale = (gram.diagonal().max() + ridge).clamp_min(1e-300)
        eye = torch.eye(len(G), dtype=gram.dtype, device=gram.device)
        P = (gram + ridge * eye) / scale  # the minimiser does not change with the scale
        P = torch.where(available[:, None], P, eye)
        lower = torch.where(available, state.margin.double(), 0.0)
        v, residual = lower_bounded_qp(P, dot_products / scale, lower, MAX_PIVOTS)
        direction = g + torch.where(conflict, v, 0.0).to(g.dtype) @ G
        unsolved = state.unsolved + (conflict & ~(residual < TOLERANCE))
        return direction, state._replace(unsolved=unsolved)

    def report(state: GEMState) -> dict[str, Tensor]:
        return {"unsolved": state.unsolved}

    return Method(align, references="per_task", init=init, report=report)
