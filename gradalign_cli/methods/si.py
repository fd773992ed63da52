"""SI: a quadratic penalty weighted by how much a parameter's path has lowered the loss (Zenke et
al. 2017, eq. 4-5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import (
    cross_entropy_with_quadratic_penalty,
    subtract_penalty_gradient,
)


class SIState(NamedTuple):
    """strength, damping: [] hyper-parameters;  loss_decrease: [P] since the task began, due to each
    parameter's path;  importance, penalty_centre: [P] the weights and the centre of the penalty."""

    strength: Tensor
    damping: Tensor
    loss_decrease: Tensor
    importance: Tensor
    penalty_centre: Tensor


def si(strength: float, damping: float) -> Method:
    """strength * sum_i W_i (p_i - centre_i)^2 added to the loss, the centre being the parameters at
    the end of the last task.

    In a task, the loss decrease of parameter i is the sum of -g_i * change_i over the steps, with g
    the gradient of the loss without the penalty. When the task has ended, W_i grows by the loss
    decrease over ((p_i - centre_i)^2 + damping). Where the loss decrease is negative, W_i does not
    change, so that no importance is negative.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(damping > 0, "method.damping", "positive", damping)

    def init(setup: MethodSetup) -> SIState:
        number, zeros = setup.params.new_tensor, torch.zeros_like(setup.params)
        return SIState(number(strength), number(damping), zeros, zeros.clone(), setup.params)

    def after_step(
        state: SIState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
    ) -> SIState:
        batch_g = subtract_penalty_gradient(unaligned_g, state, params_before)
        loss_decrease = state.loss_decrease - batch_g * (params_after - params_before)
        return state._replace(loss_decrease=loss_decrease)

    def end_task(state: SIState, params: Tensor, probe: Probe) -> SIState:
        squared_change = (params - state.penalty_centre).square()
        task_importance = (state.loss_decrease / (squared_change + state.damping)).clamp_min(0)
        return state._replace(
            loss_decrease=torch.zeros_like(params),
            importance=state.importance + task_importance,
            penalty_centre=params,
        )

    return Method(
        keep_gradient,
        objective=cross_entropy_with_quadratic_penalty(1.0),
        init=init,
        after_step=after_step,
        end_task=end_task,
    )
