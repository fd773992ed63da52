"""Warm-up: steps grow evenly to their full size before a schedule begins (Goyal et al. 2017,
sec. 2.2)."""

from collections.abc import Callable

from gradalign_cli.errors import require, require_choice
from gradalign_cli.schedules.schedule import Schedule, TaskOrRun


def schedule_after_warm_up(
    lr_factor: Callable[[int, int], float], warm_up: int, over: TaskOrRun
) -> Schedule:
    """The schedule by a factor of the step size, which begins after `warm_up` steps of a task or
    of the run. Of these, step n from 0 has the size (n + 1) / (warm_up + 1), so that the next one
    has the full size.
    """
    require(warm_up >= 0, "schedule.warm_up", "non-negative", warm_up)
    require_choice(TaskOrRun, "schedule.over", over)

    def factor_of_step(step: int, steps: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return lr_factor(step - warm_up, steps - warm_up)

    return Schedule(lr_factor=factor_of_step, over=over)
