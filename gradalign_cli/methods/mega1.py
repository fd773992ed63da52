"""MEGA-I: add the memory gradient, weighted by the ratio of the losses (Guo et al. 2020, eq. 7)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.methods.method import Gradients, Method, MethodSetup

Variant = Literal["paper", "code"]


class MEGA1State(NamedTuple):
    """eps: [] the loss below which a task counts as learned."""

    eps: Tensor


def mega1(eps: float, variant: Variant) -> Method:
    """g + (reference loss / loss) r while the loss on the batch is above eps, else r, with r the
    gradient on a memory batch of all earlier tasks.

    eps: the loss up to which a task counts as learned.
    variant: `paper` is that. In the published code, `code`, the loss on memory is compared with eps
    instead of the loss on the batch.
    """
    require(eps >= 0, "method.eps", "non-negative", eps)
    require_choice(Variant, "method.variant", variant)

    def init(setup: MethodSetup) -> MEGA1State:
        return MEGA1State(setup.params.new_tensor(eps))

    def align(gradients: Gradients, state: MEGA1State) -> tuple[Tensor, MEGA1State]:
        g, r, reference_loss = gradients.g, gradients.references[0], gradients.reference_losses[0]
        compared_loss = gradients.loss if variant == "paper" else reference_loss
        uses_g = compared_loss > state.eps
        ratio = reference_loss / gradients.loss.clamp_min(torch.finfo(g.dtype).tiny)
        direction = torch.where(uses_g, 1.0, 0.0) * g + torch.where(uses_g, ratio, 1.0) * r
        return torch.where(gradients.available[0], direction, g), state

    return Method(align, references="pooled", init=init)
