"""What watches training: it is told of every chunk of steps and every test."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.step.learner import Learner
from gradalign_cli.step.trace import Trace
from gradalign_cli.training.evaluation import Evaluator

State = dict[str, Any]  # numbers, texts, tensors and arrays, and lists and dicts of them
TaskStopFlag = bool  # true: the task ends here, though steps of it are left


class Moment(NamedTuple):
    """Where training stands after a chunk of steps of a task.

    task: its number, from 0;  task_steps_done: of the task;  task_step_count, steps_per_pass: all
    that the task, and a pass over it, has;  trace: [S, R] of the chunk's steps;
    measured_step_mask: [S] which of them measured the angles;  learners, views: [R, ...] of the
    replicas;  evaluator: by which they are tested.
    """

    task: int
    task_steps_done: int
    task_step_count: int
    steps_per_pass: int
    trace: Trace
    measured_step_mask: Tensor
    learners: Learner
    views: TaskViews
    evaluator: Evaluator

    def accuracy(self, tasks: Sequence[int], test_samples: int | None = None) -> Tensor:
        """The present accuracy [R, tasks], on all or so many samples of each test set."""
        return self.evaluator.accuracy(self.learners, self.views, tasks, test_samples)[0]


class Watcher(Protocol):
    """Something that looks at training and does not change it: the record, the display, tests
    between the steps. `state` is only asked where the run writes checkpoints."""

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """A chunk of steps is done; True stops the task here."""

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """All tasks were tested: a new row [R, T] of the accuracy matrix, after so many tasks."""

    def state(self) -> State:
        """What it goes on with after an interruption."""

    def restore(self, state: State) -> None:
        """Take up what `state` gave; the group of that time goes on."""


class WholeRunWatcher(Watcher, Protocol):
    """A watcher that stays when replicas train in groups, one after the other."""

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """A group of the replicas with these numbers begins; an unfinished one before is void."""

    def end_replica_group(self, problem: str | None) -> None:
        """The group is finished, or, where there is a problem, will be repeated in smaller ones."""
