"""What loggers are told of a run: the scalars of alignment.csv, the accuracies after each task, and
at the end the metrics and the accuracy matrix as a picture."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from gradalign_cli.errors import UserError
from gradalign_cli.loggers.logger import Logger
from gradalign_cli.training.watcher import Moment, State, TaskStopFlag

SCALARS = ("loss", "ref_loss", "cosine", "violated", "norm_ratio")  # as in alignment.csv
CELL = 16  # pixels of a cell of the matrix


class LoggingWatcher:
    """A watcher that hands the numbers of every replica to loggers.

    replicas: the numbers of those that train;  step, task_begin: steps of all tasks that are done,
    now and when the present task began.
    """

    def __init__(
        self, loggers: Sequence[Logger], replica_settings: Sequence[Mapping[str, Any]]
    ) -> None:
        """replica_settings: of each replica, by name."""
        self.loggers, self.replica_settings = list(loggers), replica_settings
        self.replicas: Sequence[int] = ()
        self.begun: set[int] = set()
        self.step, self.task_begin = 0, 0

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """Begin the runs of these replicas. A replica whose group is repeated keeps its run, in
        which its first numbers then stand twice."""
        self.replicas, self.step, self.task_begin = replica_numbers, 0, 0
        self.begin_runs(replica_numbers)

    def begin_runs(self, replicas: Sequence[int]) -> None:
        """Begin the runs of those replicas that have none yet."""
        for replica in replicas:
            if replica not in self.begun:
                self.begun.add(replica)
                for logger in self.loggers:
                    with logger_errors_as_sentences(logger):
                        logger.begin(replica, self.replica_settings[replica])

    def end_replica_group(self, problem: str | None) -> None:
        """Nothing is to be done."""

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Log the measured steps of a chunk."""
        fields = [field.tolist() for field in moment.trace[: len(SCALARS)]]
        first = self.task_begin + moment.task_steps_done - len(moment.measured_step_mask) + 1
        for s in moment.measured_step_mask.nonzero().flatten().tolist():
            for r, replica in enumerate(self.replicas):
                values = [field[s][r] for field in fields]
                self.log(replica, first + s, dict(zip(SCALARS, values, strict=True)))
        self.step = self.task_begin + moment.task_steps_done
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Log a row of the accuracy matrix, and its mean over the tasks so far."""
        self.task_begin = self.step
        for replica, row in zip(self.replicas, accuracy.tolist(), strict=True):
            values = {f"accuracy/task_{task + 1}": value for task, value in enumerate(row)}
            if ended_tasks:
                values["accuracy/so_far"] = sum(row[:ended_tasks]) / ended_tasks
            self.log(replica, self.step, values)

    def state(self) -> State:
        """Which runs have begun, and how many steps are logged."""
        place = {"step": self.step, "task_begin": self.task_begin}
        return {"replicas": list(self.replicas), "begun": sorted(self.begun), **place}

    def restore(self, state: State) -> None:
        """Begin all runs again, and go on in them: what was logged before stays where it is."""
        self.replicas, self.step = state["replicas"], state["step"]
        self.task_begin = state["task_begin"]
        self.begin_runs(state["begun"])

    def log(self, replica: int, step: int, values: Mapping[str, float]) -> None:
        """Log those of the numbers that are not NaN."""
        present = {name: value for name, value in values.items() if not math.isnan(value)}
        self.tell_all(lambda logger: logger.scalars(replica, step, present))

    def tell_all(self, tell: Callable[[Logger], None]) -> None:
        """Tell something to every logger. One that fails is warned of and told nothing more, as a
        run must not be lost with it."""
        for logger in list(self.loggers):
            try:
                with logger_errors_as_sentences(logger):
                    tell(logger)
            except UserError as error:
                self.loggers.remove(logger)
                message = f"{error}; it is left out from here on, and the run's own files go on"
                warnings.warn(message, stacklevel=1)

    def finish(self, metrics: Sequence[Mapping[str, float]], accuracy: np.ndarray) -> None:
        """Log the metrics of each replica and the accuracies [R, T + 1, T] as pictures."""
        for replica, matrix in enumerate(accuracy):
            final = {
                f"metrics/{name}": value
                for name, value in metrics[replica].items()
                if name not in self.replica_settings[replica]
            }
            self.log(replica, self.step, final)
            self.tell_all(partial(show_matrix, replica, matrix))

    def close(self) -> None:
        """End the runs."""
        self.tell_all(lambda logger: logger.close())


def show_matrix(replica: int, matrix: np.ndarray, logger: Logger) -> None:
    """Hand the picture of a replica's accuracy matrix to a logger."""
    logger.image(replica, "accuracy_matrix", matrix_pixels(matrix))


@contextmanager
def logger_errors_as_sentences(logger: Logger) -> Iterator[None]:
    """Turn whatever another program's package raises into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{type(logger).__name__} fails: {reason}") from error


def matrix_pixels(matrix: np.ndarray) -> np.ndarray:
    """A matrix of fractions as bytes [height, width, 3], from dark for 0 to yellow for 1."""
    import matplotlib as mpl

    colours = mpl.colormaps["cividis"](np.clip(matrix, 0, 1))[..., :3]
    pixels: np.ndarray = (255 * colours).astype(np.uint8).repeat(CELL, 0).repeat(CELL, 1)
    return pixels
