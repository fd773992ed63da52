"""MEGA-I: add the memory gradient, weighed by the ratio of losses (Guo et al. 2020, eq. 7)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup

RULES = ("paper", "code")


class Sensitivity(NamedTuple):
    """eps: [] the loss below which a task counts as learned."""

    eps: Tensor


def mega1(eps: float, rule: str) -> Method:
    """g + (ref_loss / loss) r while loss > eps, then r alone.

    rule: `paper`; the published code asks instead whether the loss on memory is above eps, and
    follows r alone where it is not (`code`).
    """
    require(eps >= 0, "method.eps", "non-negative", eps)
    require(rule in RULES, "method.rule", f"one of {', '.join(RULES)}", rule)

    def init(setting: MethodSetup) -> Sensitivity:
        return Sensitivity(setting.params.new_tensor(eps))

    def align(gradients: Gradients, state: Sensitivity) -> tuple[Tensor, Sensitivity]:
        g, r, memory_loss = gradients.g, gradients.references[0], gradients.reference_losses[0]
        asked = gradients.loss if rule == "paper" else memory_loss
        both = asked > state.eps
        ratio = memory_loss / gradients.loss.clamp_min(torch.finfo(g.dtype).tiny)
        mixed = torch.where(both, 1.0, 0.0) * g + torch.where(both, ratio, 1.0) * r
        return torch.where(gradients.available[0], mixed, g), state

    return Method(align, references="pooled", init=init)
