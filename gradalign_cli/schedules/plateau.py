"""Plateau: smaller steps where the held-out loss no longer falls, and then the task's end (the
protocol of Serra et al. 2018, sec. 4, and Saha et al. 2021, sec. 5)."""

import math
from typing import NamedTuple

from gradalign_cli.errors import require
from gradalign_cli.schedules.schedule import Schedule, Verdict


class Plateau(NamedTuple):
    """lowest: the best loss so far;  worse: passes since then or since the last smaller step."""

    lowest: float
    worse: int


def plateau(held_out: float, patience: int, factor: float, least: float) -> Schedule:
    """Divide the step size by `factor` after every `patience` passes without a new lowest loss; the
    task is over once it would be below `least`, and goes back to the pass of the lowest loss.

    held_out: the share of a task's training examples that the loss is taken of.
    """
    require(0 < held_out < 1, "schedule.held_out", "in (0, 1)", held_out)
    require(patience > 0, "schedule.patience", "positive", patience)
    require(factor > 1, "schedule.factor", "above 1", factor)
    require(least > 0, "schedule.least", "positive", least)

    def begin(lr: float) -> Verdict:
        return Verdict(lr, False, False, Plateau(math.inf, 0))

    def judge(verdict: Verdict, loss: float) -> Verdict:
        lowest, worse = verdict.state
        if loss < lowest:
            return Verdict(verdict.lr, False, True, Plateau(loss, 0))
        if worse + 1 < patience:
            return Verdict(verdict.lr, False, False, Plateau(lowest, worse + 1))
        lr = verdict.lr / factor
        return Verdict(lr, lr < least, False, Plateau(lowest, 0))

    return Schedule(held_out, begin, judge)
