"""MAS: a quadratic penalty weighted by how much the output depends on a parameter (Aljundi et al.
2018, eq. 2-4)."""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import cross_entropy_with_quadratic_penalty
from gradalign_cli.numerics.vectors import mean_over_rows


class MASState(NamedTuple):
    """strength, decay: [] hyper-parameters;  importance, penalty_centre: [P] the weights and the
    centre of the penalty."""

    strength: Tensor
    decay: Tensor
    importance: Tensor
    penalty_centre: Tensor


def squared_logit_sum(logits: Tensor, examples: Examples) -> Tensor:
    """The sum [] of the squares of the visible logits among logits [n, outputs]."""
    squares = logits.square()
    if isinstance(examples.visible_logit_mask, Tensor):
        squares = torch.where(examples.visible_logit_mask, squares, 0.0)
    return squares.sum()


def mas(strength: float, samples: int | None, decay: float, batch_size: int) -> Method:
    """strength * sum_i W_i (p_i - centre_i)^2 added to the loss, the centre being the parameters at
    the end of the last task.

    When a task has ended, W becomes decay * W + the mean over the task's examples of |gradient of
    the squared norm of the logits|. No labels are needed.

    samples: how many examples of the task are used; null for all.
    batch_size: over how many examples a gradient is averaged before its absolute value is taken.
    The paper's decay and batch_size are 1. The code published with A-GEM has decay 0 and batch_size
    10.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= decay <= 1, "method.decay", "in [0, 1]", decay)
    require(batch_size > 0, "method.batch_size", "positive", batch_size)
    require(samples is None or samples > 0, "method.samples", "positive or null", samples)

    def init(setup: MethodSetup) -> MASState:
        params, number = setup.params, setup.params.new_tensor
        return MASState(number(strength), number(decay), torch.zeros_like(params), params)

    def end_task(state: MASState, params: Tensor, probe: Probe) -> MASState:
        rows = probe.rows[:samples]
        if batch_size == 1:
            task_importance = mean_over_rows(
                rows, lambda piece: probe.sample_gradients(squared_logit_sum, piece).abs()
            )
        else:
            batch_sums = (
                probe.mean_gradient(squared_logit_sum, batch_rows).abs()
                for batch_rows in rows.split(batch_size)
            )
            task_importance = reduce(torch.add, batch_sums) / len(rows)
        importance = state.decay * state.importance + task_importance
        return state._replace(importance=importance, penalty_centre=params)

    return Method(
        keep_gradient,
        objective=cross_entropy_with_quadratic_penalty(1.0),
        init=init,
        end_task=end_task,
    )
