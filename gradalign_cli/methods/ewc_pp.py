"""EWC++: EWC with a running Fisher information and one anchor (Chaudhry et al. 2018, sec. 4.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import less_penalty, penalised
from gradalign_cli.methods.rwalk import to_one


class EWCPPState(NamedTuple):
    """strength, decay: [];  fisher: [P] running mean of squared gradients;  squares: [P] their sum
    over this interval;  steps: [];  importance, anchor: [P]."""

    strength: Tensor
    decay: Tensor
    fisher: Tensor
    squares: Tensor
    steps: Tensor
    importance: Tensor
    anchor: Tensor


def ewc_pp(strength: float, decay: float, interval: int) -> Method:
    """strength * sum_i F_i (p_i - anchor_i)^2 added to the loss (arXiv 1801.10112, eq. 6).

    F <- decay * mean g^2 + (1 - decay) * F after every `interval` steps, the mean over them, with g
    of the batch's loss without the penalty; no example is looked at again when a task has ended. F
    enters over its largest entry, as in the code published with A-GEM, which calls this EWC.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= decay <= 1, "method.decay", "in [0, 1]", decay)
    require(interval > 0, "method.interval", "positive", interval)

    def init(setting: MethodSetup) -> EWCPPState:
        params, number = setting.params, setting.params.new_tensor
        fisher, squares, importance = params.new_zeros(3, len(params))
        return EWCPPState(
            number(strength), number(decay), fisher, squares, number(0.0), importance, params
        )

    def after(state: EWCPPState, g: Tensor, before: Tensor, after: Tensor) -> EWCPPState:
        own = less_penalty(g, state, before)
        squares, steps = state.squares + own.square(), state.steps + 1
        full = steps % interval == 0
        later = state.decay * squares / interval + (1 - state.decay) * state.fisher
        return state._replace(
            fisher=torch.where(full, later, state.fisher),
            squares=torch.where(full, 0.0, squares),
            steps=steps,
        )

    def end_task(state: EWCPPState, params: Tensor, probe: Probe) -> EWCPPState:
        return state._replace(
            squares=torch.zeros_like(params),
            steps=torch.zeros_like(state.steps),
            importance=to_one(state.fisher),
            anchor=params,
        )

    return Method(
        keep_gradient, objective=penalised(1.0), init=init, after_step=after, end_task=end_task
    )
