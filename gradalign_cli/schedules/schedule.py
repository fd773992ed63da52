"""What a schedule is: a rule for the size of steps, by their number, or by the loss on held-out
examples, which may also end a task."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

TaskOrRun = Literal["task", "run"]


class Verdict(NamedTuple):
    """lr: the step size of the next pass;  task_over: whether there is no next pass;
    has_lowest_loss: whether the pass that has just ended has the lowest loss so far;  state: the
    schedule's own."""

    lr: float
    task_over: bool
    has_lowest_loss: bool
    state: Any


def constant_factor(step: int, total_steps: int) -> float:
    """The factor of steps that all have one size."""
    return 1.0


def first_verdict(lr: float) -> Verdict:
    """The verdict of a schedule that looks at no loss."""
    return Verdict(lr, False, False, ())


def keep_verdict(verdict: Verdict, held_out_loss: float) -> Verdict:
    """The same verdict after every pass."""
    return verdict


class Schedule(NamedTuple):
    """A rule for the size of steps. Either `lr_factor` gives it, or it follows the loss on held-out
    examples; then the task ends with the learner of its best pass.

    held_out_share: the share of each task's training examples that are not trained on; 0 where the
                    schedule looks at no loss.
    begin_task:     (lr) -> the verdict before a task's first pass.
    judge_pass:     (verdict, held_out_loss) -> the verdict after a pass, where held_out_loss is the
                    mean over the held-out examples.
    lr_factor:      (step, total_steps) -> what the step size is multiplied by in step number
                    `step`, from 0, of so many.
    over:           whether these are the steps of a task, or of the whole run.
    """

    held_out_share: float = 0.0
    begin_task: Callable[[float], Verdict] = first_verdict
    judge_pass: Callable[[Verdict, float], Verdict] = keep_verdict
    lr_factor: Callable[[int, int], float] = constant_factor
    over: TaskOrRun = "task"


def looks_at_losses(schedule: Schedule | None) -> bool:
    """Whether a schedule holds examples out, judges their loss, and may end tasks."""
    return schedule is not None and schedule.held_out_share > 0
