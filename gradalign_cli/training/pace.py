"""The pace of a task: how large its steps are and where it ends, as the run's schedule says."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.schedules.schedule import Schedule
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.watcher import Moment, StopsTask


class Pace:
    """Watches one task. Without a schedule every step has its replica's size and no pass is left
    out; with one (and a single replica) the schedule is told the held-out loss after every pass."""

    def __init__(
        self, schedule: Schedule | None, replicas: Sequence[Replica], learners: Learner
    ) -> None:
        self.schedule = schedule
        if schedule:
            self.verdict = schedule.begin(replicas[0].lr)
            self.best: Learner = tree_map(torch.clone, learners)

    def with_step_size(self, draws: Draw) -> Draw:
        """The draws with the present size of steps."""
        if not self.schedule:
            return draws
        return draws._replace(lr=torch.full_like(draws.lr, self.verdict.lr))

    def after_steps(self, moment: Moment) -> StopsTask:
        """Ask the schedule where a pass has ended; True where the task is over."""
        if not self.schedule or moment.step % moment.steps_in_pass:
            return False
        loss = moment.evaluator.held_out_loss(moment.learners, moment.views, moment.task)
        self.verdict = self.schedule.judge(self.verdict, loss)
        if self.verdict.best_so_far:  # a copy, as a recorded step writes where its learner lies
            self.best = tree_map(torch.clone, moment.learners)
        return self.verdict.task_over

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Nothing: a pace is of one task."""

    def learners_at_end(self, learners: Learner) -> Learner:
        """The learners that the task ends with: those of its best pass where a schedule judges."""
        return self.best if self.schedule else learners
