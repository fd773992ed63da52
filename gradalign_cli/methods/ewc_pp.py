"""EWC++: EWC with a running Fisher information and one penalty centre (Chaudhry et al. 2018, sec.
4.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import (
    cross_entropy_with_quadratic_penalty,
    subtract_penalty_gradient,
)
from gradalign_cli.numerics.vectors import divide_by_largest_entry


class EWCPPState(NamedTuple):
    """strength, fisher_rate: [] hyper-parameters;  fisher: [P] running mean of squared gradients;
    interval_square_sum: [P] sum of the squared gradients of the current interval;
    task_steps: [] steps since the task began;  importance, penalty_centre: [P] the weights
    and the centre of the penalty."""

    strength: Tensor
    fisher_rate: Tensor
    fisher: Tensor
    interval_square_sum: Tensor
    task_steps: Tensor
    importance: Tensor
    penalty_centre: Tensor


def ewc_pp(strength: float, fisher_rate: float, interval: int) -> Method:
    """strength * sum_i F_i (p_i - centre_i)^2 added to the loss (arXiv 1801.10112, eq. 6). F and
    the centre in the penalty are those at the end of the last task.

    After every `interval` steps F becomes fisher_rate * (mean of g^2 over these steps) + (1 -
    fisher_rate) * F, with g the gradient of the batch's loss without the penalty. No example is
    read again when a task has ended. F is divided by its largest entry in the penalty, as in the
    code published with A-GEM, which calls this method EWC.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= fisher_rate <= 1, "method.fisher_rate", "in [0, 1]", fisher_rate)
    require(interval > 0, "method.interval", "positive", interval)

    def init(setup: MethodSetup) -> EWCPPState:
        params, number = setup.params, setup.params.new_tensor
        fisher, interval_square_sum, importance = params.new_zeros(3, len(params))
        return EWCPPState(
            number(strength),
            number(fisher_rate),
            fisher,
            interval_square_sum,
            number(0.0),
            importance,
            params,
        )

    def after_step(
        state: EWCPPState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
    ) -> EWCPPState:
        batch_g = subtract_penalty_gradient(unaligned_g, state, params_before)
        interval_square_sum = state.interval_square_sum + batch_g.square()
        task_steps = state.task_steps + 1
        interval_ends = task_steps % interval == 0
        interval_fisher = state.fisher_rate * interval_square_sum / interval
        fisher = interval_fisher + (1 - state.fisher_rate) * state.fisher
        return state._replace(
            fisher=torch.where(interval_ends, fisher, state.fisher),
            interval_square_sum=torch.where(interval_ends, 0.0, interval_square_sum),
            task_steps=task_steps,
        )

    def end_task(state: EWCPPState, params: Tensor, probe: Probe) -> EWCPPState:
        return state._replace(
            interval_square_sum=torch.zeros_like(params),
            task_steps=torch.zeros_like(state.task_steps),
            importance=divide_by_largest_entry(state.fisher),
            penalty_centre=params,
        )

    return Method(
        keep_gradient,
        objective=cross_entropy_with_quadratic_penalty(1.0),
        init=init,
        after_step=after_step,
        end_task=end_task,
    )
