"""SI: a weight matters as much as its path has lowered the loss (Zenke et al. 2017, eq. 4-5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import less_penalty, penalised


class SIState(NamedTuple):
    """strength, damping: [];  path: [P] loss that each weight has saved in this task;  importance,
    anchor: [P]."""

    strength: Tensor
    damping: Tensor
    path: Tensor
    importance: Tensor
    anchor: Tensor


def si(strength: float, damping: float) -> Method:
    """strength * sum_i W_i (p_i - anchor_i)^2 added to the loss.

    path_i sums -g_i * change_i over the steps of a task, with g of the loss without the penalty. At
    its end W_i grows by path_i / ((p_i - anchor_i)^2 + damping), or by nothing where the path was
    uphill: a weight cannot matter less than not at all.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(damping > 0, "method.damping", "positive", damping)

    def init(setting: MethodSetup) -> SIState:
        number, none = setting.params.new_tensor, torch.zeros_like(setting.params)
        return SIState(number(strength), number(damping), none, none.clone(), setting.params)

    def after(state: SIState, g: Tensor, before: Tensor, after: Tensor) -> SIState:
        own = less_penalty(g, state, before)
        return state._replace(path=state.path - own * (after - before))

    def end_task(state: SIState, params: Tensor, probe: Probe) -> SIState:
        moved = (params - state.anchor).square()
        gained = (state.path / (moved + state.damping)).clamp_min(0)
        return state._replace(
            path=torch.zeros_like(params), importance=state.importance + gained, anchor=params
        )

    return Method(
        keep_gradient, objective=penalised(1.0), init=init, after_step=after, end_task=end_task
    )
