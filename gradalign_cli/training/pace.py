"""The pace of a task: how large its steps are and where it ends, as the run's schedule says."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from gradalign_cli.numerics.trees import Absent, tree_map
from gradalign_cli.schedules.schedule import Schedule, Verdict, looks_at_losses
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.watcher import Moment, TaskStopFlag


class PaceState(NamedTuple):
    """The schedule's last verdict, and the learners [1, ...] of the best pass."""

    verdict: Verdict
    best: Learner


class Pace:
    """Watches one task. Without a schedule every step has its replica's size and no pass is left
    out. One that looks at losses has a single replica and is told the held-out loss after every
    pass.

    task_steps: of each of the run's tasks;  task: the number of this one.
    """

    def __init__(
        self,
        schedule: Schedule | None,
        replicas: Sequence[Replica],
        learners: Learner,
        task_steps: Sequence[int],
        task: int,
        state: PaceState | Absent = (),
    ) -> None:
        """learners: at the beginning of the task;  state: empty there, and that of an interrupted
        run where its task goes on."""
        self.schedule, self.task_steps, self.task = schedule, task_steps, task
        self.judges = looks_at_losses(schedule)
        if schedule and self.judges:
            self.verdict = state.verdict if state else schedule.begin_task(replicas[0].lr)
            self.best: Learner = state.best if state else tree_map(torch.clone, learners)

    def state(self) -> PaceState | Absent:
        """What an interrupted task goes on with; empty where no schedule looks at losses."""
        return PaceState(self.verdict, self.best) if self.judges else ()

    def with_step_size(self, draws: Draw, first_step: int) -> Draw:
        """The draws of the task's steps from number `first_step` on with their sizes."""
        if not self.schedule:
            return draws
        if self.judges:
            return draws._replace(lr=torch.full_like(draws.lr, self.verdict.lr))
        steps = self.task_steps[self.task]
        if self.schedule.over == "run":
            first_step += sum(self.task_steps[: self.task])
            steps = sum(self.task_steps)
        numbers = range(first_step, first_step + len(draws.lr))
        factors = torch.tensor([self.schedule.lr_factor(number, steps) for number in numbers])
        return draws._replace(lr=draws.lr * factors[:, None])

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Ask the schedule where a pass has ended; True where the task is over."""
        if not self.schedule or not self.judges or moment.task_steps_done % moment.steps_per_pass:
            return False
        loss = moment.evaluator.held_out_loss(moment.learners, moment.views, moment.task)
        self.verdict = self.schedule.judge_pass(self.verdict, loss)
        if self.verdict.has_lowest_loss:  # a copy, as a recorded step writes where its learner lies
            self.best = tree_map(torch.clone, moment.learners)
        return self.verdict.task_over

    def learners_at_end(self, learners: Learner) -> Learner:
        """The learners that the task ends with: those of its best pass where a schedule judges."""
        return self.best if self.judges else learners
