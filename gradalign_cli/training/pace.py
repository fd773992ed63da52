"""The pace of a task: how large its steps are and where it ends, as the run's schedule says."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from gradalign_cli.numerics.trees import Absent, tree_map
from gradalign_cli.schedules.schedule import Schedule, Verdict
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.watcher import Moment, StopsTask


class PaceState(NamedTuple):
    """The schedule's last verdict, and the learners [1, ...] of the best pass."""

    verdict: Verdict
    best: Learner


class Pace:
    """Watches one task. Without a schedule every step has its replica's size and no pass is left
    out; with one (and a single replica) the schedule is told the held-out loss after every pass."""

    def __init__(
        self,
        schedule: Schedule | None,
        replicas: Sequence[Replica],
        learners: Learner,
        state: PaceState | Absent = (),
    ) -> None:
        """learners: at the beginning of the task;  state: empty there, and that of an interrupted
        run where its task goes on."""
        self.schedule = schedule
        if schedule:
            self.verdict = state.verdict if state else schedule.begin(replicas[0].lr)
            self.best: Learner = state.best if state else tree_map(torch.clone, learners)

    def state(self) -> PaceState | Absent:
        """What an interrupted task goes on with; empty without a schedule."""
        return PaceState(self.verdict, self.best) if self.schedule else ()

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

    def learners_at_end(self, learners: Learner) -> Learner:
        """The learners that the task ends with: those of its best pass where a schedule judges."""
        return self.best if self.schedule else learners
