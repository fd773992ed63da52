"""What a schedule is: after each pass over a task it is told the loss on held-out examples, and
says how large the next steps are, or that there are none."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """lr: the step size of the next pass;  over: whether there is none;  best: whether the pass
    that has just ended is the best so far;  state: what the schedule keeps to itself."""

    lr: float
    task_over: bool
    best_so_far: bool
    state: Any


class Schedule(NamedTuple):
    """held_out: the share of each task's training examples that are not trained on;  begin: (lr) ->
    Verdict before a task's first pass;  judge: (verdict, loss) -> Verdict, given the mean loss on
    the held-out examples after a pass. The task ends with the learner of its best pass."""

    held_out_share: float
    begin: Callable[[float], Verdict]
    judge: Callable[[Verdict, float], Verdict]
