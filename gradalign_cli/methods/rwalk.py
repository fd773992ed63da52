"""RWalk: a quadratic penalty weighted by EWC's Fisher information and SI's path score, both updated
in the steps (Chaudhry et al. 2018)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import (
    cross_entropy_with_quadratic_penalty,
    subtract_penalty_gradient,
)
from gradalign_cli.numerics.vectors import divide_by_largest_entry

Variant = Literal["paper", "code"]


class RWalkState(NamedTuple):
    """strength, fisher_rate, damping: [] hyper-parameters;  fisher: [P] running mean of squared
    gradients;  task_square_sum: [P] their sum over the current task, which only the variant
    `code` needs;  task_score: [P] score of the current task;  earlier_score: [P] of the tasks
    before it;  loss_decrease: [P] in the current interval, due to each parameter's path;
    interval_start_params: [P] the parameters when the interval began;  task_steps: [] steps since
    the task began;  importance, penalty_centre: [P] the weights and the centre of the penalty."""

    strength: Tensor
    fisher_rate: Tensor
    damping: Tensor
    fisher: Tensor
    task_square_sum: Tensor
    task_score: Tensor
    earlier_score: Tensor
    loss_decrease: Tensor
    interval_start_params: Tensor
    task_steps: Tensor
    importance: Tensor
    penalty_centre: Tensor


def add_step(
    state: RWalkState,
    batch_g: Tensor,
    params_before: Tensor,
    params_after: Tensor,
    interval: int,
    variant: Variant,
) -> RWalkState:
    """The state after a step from one [P] to other parameters [P], with the gradient batch_g [P] of
    the batch's loss without the penalty; interval, variant: see `rwalk`."""
    loss_decrease = state.loss_decrease - batch_g * (params_after - params_before)
    task_steps = state.task_steps + 1
    squared_change = (params_after - state.interval_start_params).square()
    interval_ends = task_steps % interval == 0
    task_square_sum = state.task_square_sum
    if variant == "paper":
        fisher = state.fisher_rate * batch_g.square() + (1 - state.fisher_rate) * state.fisher
        distance = fisher * squared_change / 2 + state.damping
    else:
        task_square_sum = task_square_sum + batch_g.square()
        interval_fisher = (
            state.fisher_rate * task_square_sum / interval + (1 - state.fisher_rate) * state.fisher
        )
        fisher = torch.where(interval_ends, interval_fisher, state.fisher)
        distance = state.fisher * squared_change + state.damping
    interval_score = torch.where(interval_ends, loss_decrease.clamp_min(0) / distance, 0.0)
    return state._replace(
        fisher=fisher,
        task_square_sum=task_square_sum,
        task_score=state.task_score + interval_score,
        loss_decrease=torch.where(interval_ends, 0.0, loss_decrease),
        interval_start_params=torch.where(interval_ends, params_after, state.interval_start_params),
        task_steps=task_steps,
    )


def score_of_all_tasks(state: RWalkState, task: int, variant: Variant) -> Tensor:
    """The score [P] of all tasks up to number `task`, which has ended; variant: see `rwalk`."""
    if task == 0:
        return state.task_score
    earlier_score = state.earlier_score * (1 if variant == "paper" else 3)
    return (earlier_score + state.task_score) / 2


def rwalk(
    strength: float, fisher_rate: float, damping: float, interval: int, variant: Variant
) -> Method:
    """strength * sum_i (F_i + s_i) (p_i - centre_i)^2 added to the loss (arXiv 1801.10112, eq. 8).
    F, s and the centre in the penalty are those at the end of the last task; there F and s are
    divided by their largest entries, so that one strength suits both.

    In every step F becomes fisher_rate * g^2 + (1 - fisher_rate) * F (eq. 6), with g the gradient
    of the loss without the penalty. After every `interval` steps, the score of the task grows by
    max(loss decrease, 0) / (F change^2 / 2 + damping), with the loss decrease -sum g * change and
    the change over these steps (eq. 7). When the first task has ended, s is its score. After later
    tasks s becomes the mean of s and the score of the ended task.

    variant: `paper` is that. `code` is what the authors published with A-GEM: F changes at the end
    of an interval only, to fisher_rate * S / interval + (1 - fisher_rate) * F with S the sum of g^2
    since the task began; the loss decrease is divided by F change^2 + damping, with the F before
    that change; and after later tasks s becomes (3 s + the score of the ended task) / 2.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= fisher_rate <= 1, "method.fisher_rate", "in [0, 1]", fisher_rate)
    require(damping > 0, "method.damping", "positive", damping)
    require(interval > 0, "method.interval", "positive", interval)
    require_choice(Variant, "method.variant", variant)

    def init(setup: MethodSetup) -> RWalkState:
        params, number = setup.params, setup.params.new_tensor
        numbers = number(strength), number(fisher_rate), number(damping)
        fisher, task_square_sum, task_score, earlier_score, loss_decrease, importance = (
            params.new_zeros(6, len(params))
        )
        sums = fisher, task_square_sum, task_score, earlier_score, loss_decrease
        return RWalkState(*numbers, *sums, params, number(0.0), importance, params.clone())

    def after_step(
        state: RWalkState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
    ) -> RWalkState:
        batch_g = subtract_penalty_gradient(unaligned_g, state, params_before)
        return add_step(state, batch_g, params_before, params_after, interval, variant)

    def end_task(state: RWalkState, params: Tensor, probe: Probe) -> RWalkState:
        score, zeros = score_of_all_tasks(state, probe.task, variant), torch.zeros_like(params)
        return state._replace(
            task_square_sum=zeros,
            task_score=zeros,
            earlier_score=score,
            loss_decrease=zeros,
            interval_start_params=params,
            task_steps=torch.zeros_like(state.task_steps),
            importance=divide_by_largest_entry(state.fisher) + divide_by_largest_entry(score),
            penalty_centre=params,
        )

    return Method(
        keep_gradient,
        objective=cross_entropy_with_quadratic_penalty(1.0),
        init=init,
        after_step=after_step,
        end_task=end_task,
    )
