"""Continual tests: all tasks so far, on a few samples, every few steps (De Lange et al. 2023)."""

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.training.watcher import Moment, State, TaskStopFlag


class ContinualTests:
    """Tests the tasks so far every `every_steps` steps, and where a task ends, on `test_samples`
    examples of each test set; 0 steps: never."""

    def __init__(self, every_steps: int, test_samples: int) -> None:
        self.every_steps, self.test_samples = every_steps, test_samples
        self.rows: list[Tensor] = []  # accuracy [R, T], NaN on tasks to come
        self.moments: list[tuple[int, int]] = []  # task and step of each row
        self.unknown = torch.empty(0)

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Test where such a step, or the task, has just ended."""
        if self.every_steps and (
            moment.task_steps_done % self.every_steps == 0
            or moment.task_steps_done == moment.task_step_count
        ):
            so_far = range(moment.task + 1)
            row = self.unknown.clone()
            row[:, : len(so_far)] = moment.accuracy(so_far, self.test_samples)
            self.rows.append(row)
            self.moments.append((moment.task, moment.task_steps_done))
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Only the number of replicas and tasks is taken from it."""
        self.unknown = torch.full_like(accuracy, torch.nan)

    def accuracy(self) -> list[np.ndarray] | None:
        """Of each replica the accuracy [S, T] at the S moments; None where nothing was tested."""
        return list(torch.stack(self.rows, 1).double().numpy()) if self.every_steps else None

    def replica_moments(self, replica_count: int) -> list[np.ndarray]:
        """The moments [S, 2] of each of so many replicas, which train together."""
        return [np.array(self.moments)] * replica_count

    def state(self) -> State:
        """The rows so far, in one tensor [S, R, T], with their moments [S, 2]."""
        rows = torch.stack(self.rows) if self.rows else torch.empty(0)
        return {"rows": rows, "moments": self.moments, "unknown": self.unknown}

    def restore(self, state: State) -> None:
        """Take up rows and moments."""
        self.rows, self.unknown = list(state["rows"]), state["unknown"]
        self.moments = state["moments"]
