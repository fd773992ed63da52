"""RWalk: EWC's Fisher information and SI's path, both per step (Chaudhry et al. 2018)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup, Probe, keep_gradient
from gradalign_cli.methods.penalty import less_penalty, penalised
from gradalign_cli.numerics.vectors import ratio_or_zero

FORMS = ("paper", "code")


class RWalkState(NamedTuple):
    """strength, decay, damping: [];  fisher: [P] running mean of squared gradients;  squares: [P]
    their sum over this task, for the form that needs it;  score: [P] of this task;  old_score: [P]
    of those before;  saved, start: [P] the loss each weight has saved in this interval and where it
    began;  steps: [];  importance, anchor: [P]."""

    strength: Tensor
    decay: Tensor
    damping: Tensor
    fisher: Tensor
    squares: Tensor
    score: Tensor
    old_score: Tensor
    saved: Tensor
    start: Tensor
    steps: Tensor
    importance: Tensor
    anchor: Tensor


def to_one(values: Tensor) -> Tensor:
    """Values [P] over their largest."""
    return ratio_or_zero(values, values.max())


def rwalk(strength: float, decay: float, damping: float, interval: int, form: str) -> Method:
    """strength * sum_i (F_i + s_i) (p_i - anchor_i)^2 added to the loss (arXiv 1801.10112, eq. 8).

    F <- decay * g^2 + (1 - decay) * F in every step (eq. 6), with g of the loss without the
    penalty. s sums over intervals of a few steps max(saved, 0) / (F change^2 / 2 + damping), saved
    being -sum g * change (eq. 7); when a task has ended it is the mean of itself and the scores
    before. F and s enter over their largest entry, which makes one strength fit both.

    form: `paper` is that. `code` is what the authors published with A-GEM: F <- decay * S /
    interval + (1 - decay) * F when an interval ends, S the sum of g^2 since the task began; saved
    is over F change^2 + damping, with the F before; a second task's score is half of its own and
    one and a half of those before.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(0 <= decay <= 1, "method.decay", "in [0, 1]", decay)
    require(damping > 0, "method.damping", "positive", damping)
    require(interval > 0, "method.interval", "positive", interval)
    require(form in FORMS, "method.form", f"one of {', '.join(FORMS)}", form)

    def init(setting: MethodSetup) -> RWalkState:
        params, number = setting.params, setting.params.new_tensor
        first = number(strength), number(decay), number(damping)
        fisher, squares, score, old, saved, importance = params.new_zeros(6, len(params))
        steps = number(0.0)
        return RWalkState(
            *first, fisher, squares, score, old, saved, params, steps, importance, params.clone()
        )

    def after(state: RWalkState, g: Tensor, before: Tensor, after: Tensor) -> RWalkState:
        own = less_penalty(g, state, before)
        saved, steps = state.saved - own * (after - before), state.steps + 1
        moved, full = (after - state.start).square(), steps % interval == 0
        squares = state.squares
        if form == "paper":
            fisher = state.decay * own.square() + (1 - state.decay) * state.fisher
            distance = fisher * moved / 2 + state.damping
        else:
            squares = squares + own.square()
            later = state.decay * squares / interval + (1 - state.decay) * state.fisher
            fisher = torch.where(full, later, state.fisher)
            distance = state.fisher * moved + state.damping
        return state._replace(
            fisher=fisher,
            squares=squares,
            score=state.score + torch.where(full, saved.clamp_min(0) / distance, 0.0),
            saved=torch.where(full, 0.0, saved),
            start=torch.where(full, after, state.start),
            steps=steps,
        )

    def end_task(state: RWalkState, params: Tensor, probe: Probe) -> RWalkState:
        old = state.old_score * (1 if form == "paper" else 3)
        score = (old + state.score) / 2 if probe.task else state.score
        none = torch.zeros_like(params)
        importance = to_one(state.fisher) + to_one(score)
        return state._replace(
            squares=none,
            score=none,
            old_score=score,
            saved=none,
            start=params,
            steps=torch.zeros_like(state.steps),
            importance=importance,
            anchor=params,
        )

    return Method(
        keep_gradient, objective=penalised(1.0), init=init, after_step=after, end_task=end_task
    )
