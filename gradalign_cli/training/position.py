"""Where the training of a round stands: all that the rest of it depends on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.engines.engine import Engine
from gradalign_cli.numerics.devices import to_device
from gradalign_cli.numerics.trees import Absent, tree_stack
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.training.pace import Pace, PaceState
from gradalign_cli.training.replica import Replica, new_learner

AccuracyRow = Tensor  # [1 or 2, R, T], see `TrainingResult.accuracy_matrices`


class Position(NamedTuple):
    """A place between two chunks of steps, or between two tasks. Random numbers are none of it, as
    they follow from seed, purpose and task.

    task, step: the number of the task, and how many steps of it are done;  learners: [R, ...];
    pace: the state of the task's pace, empty between tasks;  rows: of the accuracy matrices;
    steps, backward_passes: so far, of all replicas together;  seconds: so far;
    evaluation_seconds: what tests took of them.
    """

    task: int
    step: int
    learners: Learner
    pace: PaceState | Absent
    rows: list[AccuracyRow]
    steps: int = 0
    backward_passes: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0


SavePosition = Callable[[Position], None]  # as a checkpoint, where one is due


def save_nothing(position: Position) -> None:
    """`SavePosition` of a run without checkpoints."""


def first_position(parts: Parts, replicas: Sequence[Replica], engine: Engine) -> Position:
    """Where a round begins: with untrained learners, and nothing tested."""
    learners = tree_stack([new_learner(parts, replica, engine.device) for replica in replicas])
    return Position(0, 0, learners, (), [])


def position_template(parts: Parts, replicas: Sequence[Replica], engine: Engine) -> Position:
    """A position of a round with every named tuple that one may have."""
    position = first_position(parts, replicas, engine)
    return position._replace(pace=Pace(parts.schedule, replicas, position.learners, [], 0).state())


def on_device(position: Position, device: torch.device) -> Position:
    """The position with its learners on a device."""
    pace = position.pace
    if pace:
        pace = pace._replace(best=to_device(pace.best, device))
    return position._replace(learners=to_device(position.learners, device), pace=pace)
