"""Plateau: make steps smaller where the held-out loss no longer falls, and then end the task (the
protocol of Serra et al. 2018, sec. 4, and Saha et al. 2021, sec. 5)."""

import math
from typing import NamedTuple

from gradalign_cli.errors import require
from gradalign_cli.schedules.schedule import Schedule, Verdict


class PlateauState(NamedTuple):
    """lowest_loss: the lowest held-out loss so far;  passes_waited: how many passes have ended
    since that loss, or since the step size was last divided."""

    lowest_loss: float
    passes_waited: int


def plateau(held_out_share: float, patience: int, factor: float, least_lr: float) -> Schedule:
    """Divide the step size by `factor` after every `patience` passes without a new lowest loss. The
    task is over once the step size would be below `least_lr`, and goes back to the pass with the
    lowest loss.

    held_out_share: the share of a task's training examples on which the loss is taken.
    """
    require(0 < held_out_share < 1, "schedule.held_out_share", "in (0, 1)", held_out_share)
    require(patience > 0, "schedule.patience", "positive", patience)
    require(factor > 1, "schedule.factor", "above 1", factor)
    require(least_lr > 0, "schedule.least_lr", "positive", least_lr)

    def begin(lr: float) -> Verdict:
        return Verdict(lr, False, False, PlateauState(math.inf, 0))

    def judge(verdict: Verdict, held_out_loss: float) -> Verdict:
        lowest_loss, passes_waited = verdict.state
        if held_out_loss < lowest_loss:
            return Verdict(verdict.lr, False, True, PlateauState(held_out_loss, 0))
        if passes_waited + 1 < patience:
            state = PlateauState(lowest_loss, passes_waited + 1)
            return Verdict(verdict.lr, False, False, state)
        lr = verdict.lr / factor
        return Verdict(lr, lr < least_lr, False, PlateauState(lowest_loss, 0))

    return Schedule(held_out_share, begin, judge)
