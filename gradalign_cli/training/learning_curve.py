"""The learning curve of a task's first batches, which LCA is the area under (A-GEM, eq. 8)."""

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.training.watcher import Moment, State, TaskStopFlag


class LearningCurve:
    """Tests the present task after each of its first batches."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.curves: list[list[Tensor]] = []  # of each task: accuracy [R] after 0, 1, ... batches

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Test after one of the first batches, which come one by one."""
        if moment.task_steps_done <= self.batches:
            self.curves[moment.task].append(moment.accuracy([moment.task])[:, 0])
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """The next task starts from here."""
        if ended_tasks < accuracy.shape[1]:
            self.curves.append([accuracy[:, ended_tasks]])

    def result(self) -> np.ndarray | None:
        """[R, T, batches + 1], or None where there are no batches to test after; a task with fewer
        batches stays where its last one left it."""
        if not self.batches:
            return None
        full = [c + [c[-1]] * (self.batches + 1 - len(c)) for c in self.curves]
        return torch.stack([torch.stack(c, 1) for c in full], 1).double().numpy()

    def state(self) -> State:
        """The curves so far."""
        return {"curves": self.curves}

    def restore(self, state: State) -> None:
        """Take up curves."""
        self.curves = state["curves"]
