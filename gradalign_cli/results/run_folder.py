"""The run folder: what is written while a run goes on, and what only when it is finished."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.results.metrics import forgetting_matrix
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.watcher import Moment

FINISHED = ("accuracy.csv", "accuracy_task.csv", "metrics.json")
ALIGNMENT = ("replica", "task", "step", "loss", "ref_loss", "cosine", "violated", "norm_ratio")


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def cell(value: float) -> str:
    """A number as text; empty where nothing was measured."""
    return "" if np.isnan(value) else f"{value:.6g}"


def matrix_text(matrices: np.ndarray, replicas: Sequence[int]) -> str:
    """The csv of matrices [R, rows, T] of the replicas with these numbers."""
    tasks = matrices.shape[2]
    lines = ["replica,after_task," + ",".join(f"task_{t + 1}" for t in range(tasks))]
    for replica, matrix in zip(replicas, matrices, strict=True):
        for row, values in enumerate(matrix):
            lines.append(f"{replica},{row}," + ",".join(cell(v) for v in values))
    return "\n".join(lines) + "\n"


class RunFolder:
    """Writes one run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Tensor] = []
        self.replicas: Sequence[int] = ()
        self.broken, self.measured = 0.0, 0
        folder.mkdir(parents=True, exist_ok=True)
        for name in FINISHED:  # of a run that was here before
            (folder / name).unlink(missing_ok=True)
        with (folder / "alignment.csv").open("w", newline="") as file:
            csv.writer(file).writerow(ALIGNMENT)
        self.finished = self.state()

    def state(self) -> tuple[int, float, int]:
        """How far the record has come."""
        return (self.folder / "alignment.csv").stat().st_size, self.broken, self.measured

    def begin_round(self, replicas: Sequence[int]) -> None:
        """A round of the replicas with these numbers begins; what an unfinished one left goes."""
        self.rows, self.replicas = [], replicas
        size, self.broken, self.measured = self.finished
        os.truncate(self.folder / "alignment.csv", size)

    def end_round(self, problem: str | None) -> None:
        """The round is finished, unless there was a problem."""
        if problem is None:
            self.finished = self.state()

    def after_steps(self, moment: Moment) -> bool:
        """Append the measured steps of a chunk to `alignment.csv`."""
        trace, measured = moment.trace, moment.measured
        first = moment.step - len(measured)
        kept = [s for s in range(len(measured)) if measured[s]]
        fields = [part.tolist() for part in trace[:5]]
        with (self.folder / "alignment.csv").open("a", newline="") as file:
            csv.writer(file).writerows(
                [replica, moment.task + 1, first + s + 1, *(cell(field[s][r]) for field in fields)]
                for s in kept
                for r, replica in enumerate(self.replicas)
            )
        broken = trace.constraint_broken[measured]
        known = ~broken.isnan()
        self.broken += float(broken[known].sum())
        self.measured += int(known.sum())
        return False

    def after_test(self, row: int, accuracy: Tensor) -> None:
        """Keep a row of the accuracy matrix and what is known so far."""
        self.rows.append(accuracy)
        text = matrix_text(torch.stack(self.rows, 1).numpy(), self.replicas)
        write_atomically(self.folder / "accuracy.partial.csv", text)

    def constraints(self) -> dict[str, Any]:
        """How often the applied update hurt the memory, and of how many measured steps."""
        return {"measured_steps": self.measured, "broken_constraints": self.broken}

    def write_continual(self, accuracy: np.ndarray, moments: np.ndarray) -> None:
        """Write `continual.csv`: accuracy [R, S, T] at moments [S, 2] of task and step."""
        tasks = ",".join(f"task_{t + 1}" for t in range(accuracy.shape[2]))
        lines = [f"replica,task,step,{tasks}"] + [
            f"{replica},{task + 1},{step}," + ",".join(cell(value) for value in row)
            for replica, rows in enumerate(accuracy)
            for (task, step), row in zip(moments, rows, strict=True)
        ]
        write_atomically(self.folder / "continual.csv", "\n".join(lines) + "\n")

    def finish(self, outcome: Outcome, results: dict[str, Any], record: dict[str, Any]) -> None:
        """Write the files whose presence says that the run is finished."""
        accuracy, own = outcome.accuracy, outcome.own_logits_accuracy
        if outcome.continual_accuracy is not None:
            self.write_continual(outcome.continual_accuracy, outcome.continual_moments)
        forgetting, every = np.stack([forgetting_matrix(R) for R in accuracy]), range(len(accuracy))
        write_atomically(self.folder / "forgetting.csv", matrix_text(forgetting, every))
        if own is not None:
            write_atomically(self.folder / "accuracy_task.csv", matrix_text(own, every))
        write_atomically(self.folder / "record.json", json.dumps(record, indent=1) + "\n")
        write_atomically(self.folder / "metrics.json", json.dumps(results, indent=1) + "\n")
        write_atomically(self.folder / "accuracy.csv", matrix_text(accuracy, every))
        (self.folder / "accuracy.partial.csv").unlink()
