"""Cosine: steps become smaller as half a cosine falls (Loshchilov & Hutter 2017, eq. 5)."""

import math

from gradalign_cli.errors import require
from gradalign_cli.schedules.schedule import Schedule, TaskOrRun
from gradalign_cli.schedules.warm_up import schedule_after_warm_up


def cosine(least_share: float, warm_up: int, over: TaskOrRun) -> Schedule:
    """The step size falls from its full size to `least_share` of it, over every task or the run."""
    require(0 <= least_share <= 1, "schedule.least_share", "in [0, 1]", least_share)

    def factor(step: int, steps: int) -> float:
        return least_share + (1 - least_share) * (1 + math.cos(math.pi * step / steps)) / 2

    return schedule_after_warm_up(factor, warm_up, over)
