"""What a schedule is: after each pass over a task it is given the loss on held-out examples, and
decides on the size of the next steps or ends the task."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """lr: the step size of the next pass;  task_over: whether there is no next pass;  best_so_far:
    whether the pass that has just ended has the lowest loss so far;  state: the schedule's own."""

    lr: float
    task_over: bool
    best_so_far: bool
    state: Any


class Schedule(NamedTuple):
    """A rule that adapts the step size to the loss on held-out examples. The task ends with the
    learner of its best pass.

    held_out_share: the share of each task's training examples that are not trained on.
    begin:          (lr) -> the verdict before a task's first pass.
    judge:          (verdict, held_out_loss) -> the verdict after a pass, where held_out_loss is the
                    mean over the held-out examples.
    """

    held_out_share: float
    begin: Callable[[float], Verdict]
    judge: Callable[[Verdict, float], Verdict]
