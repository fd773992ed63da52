"""Constant: steps of one size, after a warm-up."""

from gradalign_cli.schedules.schedule import Schedule, TaskOrRun, constant_factor
from gradalign_cli.schedules.warm_up import schedule_after_warm_up


def constant(warm_up: int, over: TaskOrRun) -> Schedule:
    """Steps grow for `warm_up` steps, of every task or of the run, and then stay as they are."""
    return schedule_after_warm_up(constant_factor, warm_up, over)
