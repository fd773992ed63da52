"""The run folder: what is written during training, and what only when the run is finished."""

import csv
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.errors import UserError, os_errors_as_sentences
from gradalign_cli.files.checkpoint_files import (
    checkpoint_files,
    remove_checkpoints,
    remove_unfinished_checkpoints,
)
from gradalign_cli.files.locking import FolderLock
from gradalign_cli.files.reading import open_regular
from gradalign_cli.files.writing import make_folder, remove_empty_folders, write_atomically
from gradalign_cli.results.final_files import FAILURE_FILE, FINAL_FILES, LAST_FILE
from gradalign_cli.results.metrics import forgetting_matrix
from gradalign_cli.results.network_file import NETWORK_FILE
from gradalign_cli.results.run_metrics import MetricsJson
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.watcher import Moment, State, TaskStopFlag

START_ANEW = "`gradalign train` with `overwrite=true` starts the run anew"
ALIGNMENT_FILE = "alignment.csv"
RUN_FILES = (
    *FINAL_FILES,
    "accuracy_task.csv",
    "accuracy.partial.csv",
    "config.yaml",
    "continual.csv",
    FAILURE_FILE,
    "forgetting.csv",
    "learning_curves.csv",
    NETWORK_FILE,
    "record.json",
    "report.html",
    ALIGNMENT_FILE,  # removed last and written first, see refuse_files_of_others
)
HYDRA_FOLDER = ".hydra"
ALIGNMENT_COLUMNS = (
    "replica",
    "task",
    "step",
    "loss",
    "ref_loss",
    "cosine",
    "violated",
    "norm_ratio",
)


def csv_number(value: float) -> str:
    """A number as text, empty for NaN."""
    return "" if np.isnan(value) else f"{value:.6g}"


def matrices_csv(matrices: np.ndarray, replica_numbers: Sequence[int]) -> str:
    """The csv of matrices [R, rows, T], row i after task i; replica_numbers: of each matrix."""
    tasks = matrices.shape[2]
    lines = ["replica,after_task," + ",".join(f"task_{t + 1}" for t in range(tasks))]
    for replica, matrix in zip(replica_numbers, matrices, strict=True):
        for after_task, row in enumerate(matrix):
            lines.append(f"{replica},{after_task}," + ",".join(csv_number(v) for v in row))
    return "\n".join(lines) + "\n"


def learning_curves_csv(learning_curves: np.ndarray) -> str:
    """The csv of the accuracies [R, T, B + 1] on each task after 0, 1, ... B steps of it."""
    lines = ["replica,task,step,accuracy"]
    for (replica, task, step), accuracy in np.ndenumerate(learning_curves):
        lines.append(f"{replica},{task + 1},{step},{csv_number(accuracy)}")
    return "\n".join(lines) + "\n"


def json_text(content: dict[str, Any]) -> str:
    """The content as JSON, which has no NaN and no infinity: null in their place."""

    def valid(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: valid(entry) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [valid(entry) for entry in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(valid(content), indent=1, allow_nan=False) + "\n"


def holds_finished_run(folder: Path) -> bool:
    """Whether the folder has what a finished run ends with, be it damaged."""
    return os.path.lexists(folder / LAST_FILE)


def refuse_finished_run(folder: Path, overwrite: bool) -> None:
    """Raise UserError where the folder holds a finished run, unless that may be overwritten."""
    if not overwrite and holds_finished_run(folder):
        raise UserError(f"{folder} holds a finished run; `overwrite=true` replaces it")


def refuse_files_of_others(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise UserError where the folder holds files with these names that no run has left there,
    unless they may be overwritten. A run's folder has an `alignment.csv` as long as it has others
    of them, but for the file of a job of a sweep that failed before it began."""
    present = [name for name in names if name != FAILURE_FILE and os.path.lexists(folder / name)]
    present += [path.name for path in checkpoint_files(folder)]
    if overwrite or not present or begins_as_alignment_file(folder / ALIGNMENT_FILE):
        return
    raise UserError(
        f"{folder} has files that are not those of a run, such as {present[0]}; `overwrite=true` "
        "replaces them"
    )


def begins_as_alignment_file(path: Path) -> bool:
    """Whether a file begins with columns as a run writes them, of this version or another."""
    columns = ",".join(ALIGNMENT_COLUMNS[:3])
    try:
        with open_regular(path) as file:
            return bool(file.read(len(columns)) == columns.encode())
    except UserError:
        return False


def remove_run_files(folder: Path, names: Sequence[str]) -> None:
    """Remove the files with these names from a run's folder, and what was to become one of them
    when an earlier run was killed. All else in the folder stays."""
    for name in names:
        file = folder / name
        for path in (file, *file.parent.glob(f"{file.name}.????????.partial")):
            with os_errors_as_sentences("remove", path):
                path.unlink(missing_ok=True)


class AlignmentProgress(NamedTuple):
    """The size of `alignment.csv` in bytes, and the counts of `RunFolder.constraint_counts`."""

    alignment_bytes: int
    broken_constraints: float
    measured_steps: int


class RunFolder:
    """A watcher that writes the folder of a run. It holds the folder's lock until `finish` or
    `release`.

    accuracy_rows: the rows [R, T] of the accuracy matrix of the present group;  replicas: the
    numbers of its replicas;  replaced_unfinished: whether this run began in the place of one that
    could have gone on;  broken_constraints, measured_steps: see `constraint_counts`;
    finished_groups_progress: how far the files and counts had come after the last finished group.
    """

    def __init__(
        self,
        folder: Path,
        overwrite: bool = False,
        initial_files: Mapping[str, str] | None = None,
        resumes: bool = False,
        replaces_unfinished: bool = False,
    ) -> None:
        """Make and lock the folder, remove what an earlier run left in it, and write the files that
        a run begins with. If that fails, nothing new is left behind.

        overwrite: whether an earlier run may be replaced;  initial_files: texts by name, which may
        begin with `.hydra/`;  resumes: whether an unfinished run goes on, whose files stay;
        replaces_unfinished: whether an unfinished run may be replaced where a finished one may not.
        Raises UserError where the folder is in use, holds an earlier run, or cannot be written to.
        """
        self.folder = folder
        self.accuracy_rows: list[Tensor] = []
        self.replicas: Sequence[int] = ()
        self.broken_constraints, self.measured_steps = 0.0, 0
        self.replaced_unfinished = False
        new_folders = make_folder(folder)
        try:
            self.lock = FolderLock(folder)
            try:
                if resumes:
                    refuse_finished_run(folder, overwrite)
                    remove_unfinished_checkpoints(folder)
                else:
                    self.begin(overwrite, initial_files or {}, replaces_unfinished)
                self.finished_groups_progress = self.alignment_progress()
            except UserError:
                self.release()
                raise
        except UserError:
            remove_empty_folders([folder / HYDRA_FOLDER, *new_folders])
            raise

    def begin(
        self, overwrite: bool, initial_files: Mapping[str, str], replaces_unfinished: bool
    ) -> None:
        """Remove what an earlier run left, and write these files and the first line of
        `alignment.csv`: all of them, or none and a UserError."""
        refuse_finished_run(self.folder, overwrite)
        hydra_folder, names = self.folder / HYDRA_FOLDER, (*initial_files, *RUN_FILES)
        if hydra_folder.is_symlink():
            raise UserError(f"{hydra_folder} must be a folder, found a symbolic link")
        refuse_files_of_others(self.folder, names, overwrite)
        self.replaced_unfinished = bool(checkpoint_files(self.folder))
        if self.replaced_unfinished and not (overwrite or replaces_unfinished):
            raise UserError(
                f"{self.folder} holds an unfinished run; `gradalign resume "
                f"{quote(str(self.folder))}` goes on, and `overwrite=true` begins anew"
            )
        remove_run_files(self.folder, names)
        remove_checkpoints(self.folder)
        try:
            with self.alignment_file("x") as file:
                csv.writer(file).writerow(ALIGNMENT_COLUMNS)
            for name, text in initial_files.items():
                self.write(name, text)
        except UserError:
            remove_run_files(self.folder, names)
            raise

    def release(self) -> None:
        """Free the lock of the folder."""
        self.lock.release()

    def write(self, name: str, text: str | bytes) -> None:
        """Write a file of the folder, or of the folder `.hydra` in it, whole or not at all."""
        path = self.folder / name
        if path.parent != self.folder:
            make_folder(path.parent)
        write_atomically(path, text)

    @contextmanager
    def alignment_file(self, mode: str) -> Iterator[IO[str]]:
        """`alignment.csv`, opened to be written, and not through a symbolic link."""

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW, 0o666)

        path = self.folder / ALIGNMENT_FILE
        with (
            os_errors_as_sentences("write", path),
            open(path, mode, newline="", encoding="utf-8", opener=opener) as file,
        ):
            yield file

    def alignment_progress(self) -> AlignmentProgress:
        """How far the files and counts have come."""
        path = self.folder / ALIGNMENT_FILE
        with os_errors_as_sentences("read", path):
            size = path.stat().st_size
        return AlignmentProgress(size, self.broken_constraints, self.measured_steps)

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """A group of the replicas with these numbers begins. What an unfinished group wrote and
        counted is removed."""
        self.accuracy_rows, self.replicas = [], replica_numbers
        size, self.broken_constraints, self.measured_steps = self.finished_groups_progress
        with self.alignment_file("a") as file:
            file.truncate(size)

    def end_replica_group(self, problem: str | None) -> None:
        """The group is finished, unless there was a problem."""
        if problem is None:
            self.finished_groups_progress = self.alignment_progress()

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Append the measured steps of a chunk to `alignment.csv`, and count."""
        trace, measured = moment.trace, moment.measured_step_mask
        first_step = moment.task_steps_done - len(measured)
        measured_indices = [s for s in range(len(measured)) if measured[s]]
        fields = [field.tolist() for field in trace[:5]]  # loss to norm_ratio
        with self.alignment_file("a") as file:
            csv.writer(file).writerows(
                [
                    *(replica, moment.task + 1, first_step + s + 1),
                    *(csv_number(field[s][r]) for field in fields),
                ]
                for s in measured_indices
                for r, replica in enumerate(self.replicas)
            )
        broken = trace.applied_update_violates[measured]
        not_nan = ~broken.isnan()
        self.broken_constraints += float(broken[not_nan].sum())
        self.measured_steps += int(not_nan.sum())
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Store a row of the accuracy matrix, and write the rows so far."""
        self.accuracy_rows.append(accuracy)
        text = matrices_csv(torch.stack(self.accuracy_rows, 1).numpy(), self.replicas)
        self.write("accuracy.partial.csv", text)

    def state(self) -> State:
        """The rows and counts so far, and how much of `alignment.csv` belongs to them, which is
        flushed to the disk."""
        size, broken_constraints, measured_steps = self.alignment_progress()
        with self.alignment_file("a") as file:
            os.fsync(file.fileno())
        return {
            "accuracy_rows": self.accuracy_rows,
            "replicas": list(self.replicas),
            "finished_groups_progress": list(self.finished_groups_progress),
            "progress": [size, broken_constraints, measured_steps],
            "alignment_checksum": self.alignment_checksum(size),
        }

    def restore(self, state: State) -> None:
        """Take up rows and counts, and cut `alignment.csv` to what belongs to them. Raises
        UserError where it is another file than it was."""
        size, self.broken_constraints, self.measured_steps = state["progress"]
        if self.alignment_checksum(size) != state["alignment_checksum"]:
            path = self.folder / ALIGNMENT_FILE
            raise UserError(f"{path} is damaged; {START_ANEW}")
        self.accuracy_rows, self.replicas = state["accuracy_rows"], state["replicas"]
        self.finished_groups_progress = AlignmentProgress(*state["finished_groups_progress"])
        with self.alignment_file("a") as file:
            file.truncate(size)

    def alignment_checksum(self, byte_count: int) -> int:
        """The CRC-32 of the first `byte_count` bytes of `alignment.csv`; -1 where it has fewer."""
        with open_regular(self.folder / ALIGNMENT_FILE) as file:
            content = file.read(byte_count)
        return zlib.crc32(content) if len(content) == byte_count else -1

    def constraint_counts(self) -> dict[str, Any]:
        """Of all replicas together, the number of measured steps with references, and in how many
        of them the applied update raised the loss on memory to first order."""
        return {
            "measured_steps": self.measured_steps,
            "broken_constraints": self.broken_constraints,
        }

    def write_continual_csv(
        self, replica_accuracies: list[np.ndarray], replica_moments: list[np.ndarray]
    ) -> None:
        """Write `continual.csv`: of each replica its accuracy [S, T] at its moments [S, 2] of task
        and step."""
        tasks = ",".join(f"task_{t + 1}" for t in range(replica_accuracies[0].shape[1]))
        lines = [f"replica,task,step,{tasks}"] + [
            f"{replica},{task + 1},{step}," + ",".join(csv_number(value) for value in row)
            for replica, rows in enumerate(replica_accuracies)
            for (task, step), row in zip(replica_moments[replica], rows, strict=True)
        ]
        self.write("continual.csv", "\n".join(lines) + "\n")

    def finish(
        self,
        outcome: Outcome,
        results: MetricsJson,
        record: dict[str, Any],
        network: bytes | None = None,
    ) -> None:
        """Write the results of a finished run. The file that marks it as finished, `accuracy.csv`,
        comes last.

        results: the content of metrics.json;  record: that of record.json;  network: that of
        network.safetensors, None where the run keeps none.
        """
        accuracy, task_logits_accuracy = outcome.accuracy, outcome.task_logits_accuracy
        if outcome.continual_accuracy is not None:
            self.write_continual_csv(outcome.continual_accuracy, outcome.continual_moments)
        if outcome.learning_curves is not None:
            self.write("learning_curves.csv", learning_curves_csv(outcome.learning_curves))
        forgetting = np.stack([forgetting_matrix(R) for R in accuracy])
        replicas = range(len(accuracy))
        self.write("forgetting.csv", matrices_csv(forgetting, replicas))
        if task_logits_accuracy is not None:
            text = matrices_csv(task_logits_accuracy, replicas)
            self.write("accuracy_task.csv", text)
        if network is not None:
            self.write(NETWORK_FILE, network)
        self.write("record.json", json_text(record))
        self.write("metrics.json", json_text(results))
        self.write("accuracy.csv", matrices_csv(accuracy, replicas))
        remove_run_files(self.folder, ["accuracy.partial.csv"])
        remove_checkpoints(self.folder)
        self.release()
