"""GEM: the nearest direction that hurts no earlier task (Lopez-Paz & Ranzato 2017, eq. 8-11)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.quadratic import lower_bounded_qp

MAX_GPU_PIVOTS = 24  # random problems need up to 8, nearly singular ones with a margin more than 16
LARGEST_RIDGE = 1e12  # on a diagonal of 1, where a constant eps meets a tiny gradient
EXACT_EPS = 1e-8  # the ridge up to which no reference is hurt, but for rounding
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
    scaled: whether eps is multiplied by the squared length of each gradient, so that it affects
    long and short gradients alike.
    """
    require(margin >= 0, "method.margin", "non-negative", margin)
    require(eps > 0, "method.eps", "positive", eps)

    def init(setup: MethodSetup) -> GEMState:
        number = setup.params.new_tensor
        return GEMState(number(margin), number(eps), setup.params.new_zeros(()))

    def align(gradients: Gradients, state: GEMState) -> tuple[Tensor, GEMState]:
        g, available = gradients.g, gradients.available
        # the program is solved for references of length 1, with y = |g_t| v, so that short and long
        # ones count alike and nothing overflows
        references = gradients.references
        # The largest absolute entry of each row, without a copy of all absolute values.
        largest = torch.maximum(references.amax(1), -references.amin(1))[:, None]
        rows = references / torch.where(largest > 0, largest, 1.0)
        scaled_lengths = rows.norm(dim=1).double()
        norms = scaled_lengths * largest[:, 0].double()
        divisors = torch.where(norms > 0, scaled_lengths, 1.0)
        cosines = (rows @ rows.T).double() / divisors[:, None] / divisors
        slopes = (rows @ g).double() / divisors  # of g along the unit references
        conflict = ((slopes < 0) & available).any()
        eps = state.eps.double()
        ridge = eps if scaled else (eps / norms.square()).clamp_max(LARGEST_RIDGE)
        eye = torch.eye(len(norms), dtype=norms.dtype, device=norms.device)
        counted = available & (norms > 0)
        P = torch.where(counted[:, None] & counted, cosines * (1 - eye), 0.0)
        P = P + eye * torch.where(counted, 1 + ridge, 1.0)
        q = torch.where(counted, slopes, 0.0)
        lower = torch.where(counted, state.margin.double() * norms, 0.0)
        y, residual = lower_bounded_qp(P, q, lower, MAX_GPU_PIVOTS)
        weights = torch.where(conflict, y / divisors, 0.0)
        direction = g + weights.to(g.dtype) @ rows
        unsolved = state.unsolved + (conflict & ~(residual < TOLERANCE))
        return direction, state._replace(unsolved=unsolved)

    def report(state: GEMState) -> dict[str, Tensor]:
        return {"unsolved": state.unsolved}

    return Method(
        align,
        references="per_task",
        init=init,
        report=report,
        claims=("hurts_no_reference",) if scaled and eps <= EXACT_EPS else (),
        align_accepts_updates=margin == 0,  # a margin is in units of gradients
    )
