"""Step: the step size is divided at certain shares of a task or of the run."""

from gradalign_cli.errors import require
from gradalign_cli.schedules.schedule import Schedule, TaskOrRun
from gradalign_cli.schedules.warm_up import schedule_after_warm_up


def step(milestones: list[float], factor: float, warm_up: int, over: TaskOrRun) -> Schedule:
    """The step size is divided by `factor` at every milestone.

    milestones: shares of the steps of every task or of the run, such as 0.7 and 0.9 for passes 49
    and 63 of 70.
    """
    inside = bool(milestones) and all(0 < milestone < 1 for milestone in milestones)
    require(inside, "schedule.milestones", "a list of numbers in (0, 1)", milestones)
    require(factor > 1, "schedule.factor", "above 1", factor)

    def factor_of_step(number: int, steps: int) -> float:
        passed = sum(number >= round(milestone * steps) for milestone in milestones)
        return float(factor**-passed)

    return schedule_after_warm_up(factor_of_step, warm_up, over)
