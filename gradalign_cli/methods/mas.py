"""MAS: a weight matters as much as the output depends on it (Aljundi et al. 2018, eq. 2-4)."""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import penalised
from gradalign_cli.numerics.vectors import mean_in_pieces


class MASState(NamedTuple):
    """strength, decay: [];  importance, anchor: [P]."""

    strength: Tensor
    decay: Tensor
    importance: Tensor
    anchor: Tensor


def size(logits: Tensor, examples: Examples) -> Tensor:
    """The sum [] of the squared logits [n, outputs] of examples, of those that count."""
    squares = logits.square()
    if isinstance(examples.visible_logits, Tensor):
        squares = torch.where(examples.visible_logits, squares, 0.0)
    return squares.sum()


def mas(strength: float, samples: int | None, decay: float, batch: int) -> Method:
    """strength * sum_i W_i (p_i - anchor_i)^2 added to the loss.

    W fades by `decay` after each task, and grows by the mean over the task's examples of |gradient
    of the squared length of the logits|; no label is needed. samples: how many examples of a task;
    all when None. batch: over how many examples a gradient is a mean before its size is taken. The
    paper's decay and batch are 1; the code published with A-GEM has 0 and 10.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= decay <= 1, "method.decay", "in [0, 1]", decay)
    require(batch > 0, "method.batch", "positive", batch)
    require(samples is None or samples > 0, "method.samples", "positive or null", samples)

    def init(setting: MethodSetup) -> MASState:
        params, number = setting.params, setting.params.new_tensor
        return MASState(number(strength), number(decay), torch.zeros_like(params), params)

    def end_task(state: MASState, params: Tensor, probe: Probe) -> MASState:
        rows = probe.rows[:samples]
        if batch == 1:
            new = mean_in_pieces(rows, lambda part: probe.sample_gradients(size, part).abs())
        else:
            sums = (probe.mean_gradient(size, part).abs() for part in rows.split(batch))
            new = reduce(torch.add, sums) / len(rows)
        return state._replace(importance=state.decay * state.importance + new, anchor=params)

    return Method(keep_gradient, objective=penalised(1.0), init=init, end_task=end_task)
