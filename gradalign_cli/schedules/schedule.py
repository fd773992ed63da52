"""What a schedule is: after each pass over a task it is told the loss on held-out examples, and
says how large the next steps are, or that there are none."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from gradalign_cli.trees import tree_map


class Verdict(NamedTuple):
    """lr: the step size of the next pass;  over: whether there is none;  best: whether the pass
    that has just ended is the best so far;  state: what the schedule keeps to itself."""

    lr: float
    over: bool
    best: bool
    state: Any


class Schedule(NamedTuple):
    """held_out: the share of each task's training examples that are not trained on;  begin: (lr) ->
    Verdict before a task's first pass;  judge: (verdict, loss) -> Verdict, given the mean loss on
    the held-out examples after a pass. The task ends with the learner of its best pass."""

    held_out: float
    begin: Callable[[float], Verdict]
    judge: Callable[[Verdict, float], Verdict]


class Course(NamedTuple):
    """How the training of a task stands: what its schedule says, and the learner that the task
    would end with."""

    schedule: Schedule
    verdict: Verdict
    learner: Any


def begun(schedule: Schedule, lr: float, learner: Any) -> Course:
    """The course at a task's start."""
    return Course(schedule, schedule.begin(lr), tree_map(torch.clone, learner))


def judged(course: Course, loss: float, learner: Any) -> Course:
    """The course after a pass that left this learner."""
    verdict = course.schedule.judge(course.verdict, loss)
    # a copy, as a recorded step writes where its learner lies
    kept = tree_map(torch.clone, learner) if verdict.best else course.learner
    return Course(course.schedule, verdict, kept)
