"""Constant: steps of one size, after a warm-up."""

from gradalign_cli.schedules.schedule import Over, Schedule, as_at_first
from gradalign_cli.schedules.warm_up import scheduled


def constant(warm_up: int, over: Over) -> Schedule:
    """Steps grow for `warm_up` steps, of every task or of the run, and then stay as they are."""
    return scheduled(as_at_first, warm_up, over)
