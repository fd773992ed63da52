"""Parameters that run away: a loss that is still finite, but far above what guessing has."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.training.watcher import Moment, State, TaskStopFlag

FACTOR = 100  # a network that is confidently wrong has a loss some ten times that of guessing


class Runaway(NamedTuple):
    """A replica, and the first task (from 1) and step whose chunk had a median loss like this."""

    replica: int
    task: int
    step: int
    loss: float


class RunawayWarner:
    """A watcher that finds the replicas whose parameters run away.

    They do where the median loss of a chunk of steps is 100 times that of guessing among all
    classes, or that of the task's first step where this is larger, as it is with a method whose
    loss has other terms.

    runaways: the first such chunk of each such replica, by the replica's number.
    """

    def __init__(self, outputs: int, warn: Callable[[Runaway], None]) -> None:
        """outputs: the number of logits;  warn: called with the first runaway of the run."""
        self.guessing_loss = math.log(outputs)
        self.warn = warn
        self.runaways: dict[int, Runaway] = {}
        self.replicas: Sequence[int] = ()
        self.first_loss = torch.empty(0)

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """A group of the replicas with these numbers begins."""
        self.replicas = replica_numbers

    def end_replica_group(self, problem: str | None) -> None:
        """Nothing: what a repeated group finds again is not counted again."""

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Compare the median loss of each replica in a chunk."""
        loss = moment.trace.loss
        if moment.task_steps_done == len(loss):
            self.first_loss = loss[0]
        medians = loss.median(0).values
        limits = FACTOR * self.first_loss.clamp_min(self.guessing_loss)
        for place in (medians > limits).nonzero()[:, 0].tolist():
            replica = self.replicas[place]
            runaway = Runaway(
                replica, moment.task + 1, moment.task_steps_done, float(medians[place])
            )
            if not self.runaways:
                self.warn(runaway)
            self.runaways.setdefault(replica, runaway)
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Nothing: an accuracy does not tell parameters that run away from a task forgotten."""

    def state(self) -> State:
        """The runaways, and the first loss [R] of the group's replicas in the task."""
        runaways, replicas = self.record(), list(self.replicas)
        return {"runaways": runaways, "replicas": replicas, "first_loss": self.first_loss}

    def restore(self, state: State) -> None:
        """Take up runaways, which were warned of."""
        runaways = [Runaway(**values) for values in state["runaways"]]
        self.runaways = {runaway.replica: runaway for runaway in runaways}
        self.replicas, self.first_loss = state["replicas"], state["first_loss"]

    def record(self) -> list[dict[str, float]]:
        """The runaways, for record.json."""
        return [runaway._asdict() for _, runaway in sorted(self.runaways.items())]
