"""MAS: a weight matters as much as the output depends on it (Aljundi et al. 2018, eq. 2-4)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, Probe, Setting, keep_gradient, mean_over
from gradalign_cli.methods.penalty import penalised


class MASState(NamedTuple):
    """strength: [];  importance, anchor: [P]."""

    strength: Tensor
    importance: Tensor
    anchor: Tensor


def size(logits: Tensor, examples: Examples) -> Tensor:
    """The squared length [] of an example's logits [1, outputs], of those that count."""
    squares = logits.square()
    if isinstance(examples.visible, Tensor):
        squares = torch.where(examples.visible, squares, 0.0)
    return squares.sum()


def mas(strength: float, samples: int | None) -> Method:
    """strength * sum_i W_i (p_i - anchor_i)^2 added to the loss.

    W grows after each task by the mean over its examples of |gradient of the squared length of the
    logits|; no label is needed. samples: how many examples of a task; all when None.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(samples is None or samples > 0, "method.samples", "positive or null", samples)

    def init(setting: Setting) -> MASState:
        strong = setting.params.new_tensor(strength)
        return MASState(strong, torch.zeros_like(setting.params), setting.params)

    def end_task(state: MASState, params: Tensor, probe: Probe) -> MASState:
        rows = probe.rows[:samples]
        new = mean_over(rows, lambda part: probe.sample_gradients(size, part).abs())
        return state._replace(importance=state.importance + new, anchor=params)

    return Method(keep_gradient, objective=penalised(1.0), init=init, end_task=end_task)
