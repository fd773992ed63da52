"""The files of a run, read with bounds and checked, as the folder may come from others."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradalign_cli.errors import UserError, counted, require
from gradalign_cli.files.reading import read_bounded, read_json
from gradalign_cli.results.metrics import metrics

# settings of where and how a run is computed; they change its numbers by rounding
SETTINGS_WITHOUT_EFFECT = (
    "name",
    "checkpoint",
    "data_dir",
    "device",
    "threads",
    "engine",
    "memory_budget",
    "image_budget",
    "overwrite",
    "save",
    "skip_finished",
    "objective_metric",
    "report",
    "resume",
    "logger",
    "paper",
)
# names of metrics begin so; a difference of accuracies may be negative
ACCURACIES = ("ACC", "LA", "AAA", "LCA", "min_ACC", "WC_ACC", "stability_gap")
ACCURACY_DIFFERENCES = ("BWT", "FWT", "forgetting")
LARGEST_FILE = 2**23  # bytes of a file of a run; one of a thousand replicas has a tenth of it
MOST_TASKS = 1000
CSV_ROUNDING = 1e-5  # of metrics computed from the accuracies of accuracy.csv


def exact_number_text(value: float) -> str:
    """A number in the fewest digits that tell it from all others."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def read_json_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a run; UserError where there is none."""
    content = read_json(path, LARGEST_FILE)
    if not isinstance(content, dict):
        raise UserError(f"{path.name} must be a mapping, found {type(content).__name__}")
    return content


def read_metrics_per_replica(metrics_file: Path) -> list[dict[str, float]]:
    """The numbers of each replica in metrics.json, its seed among them, without those that are not
    finite; UserError where they are not what a run writes."""
    replicas = read_json_mapping(metrics_file).get("replicas")
    if not isinstance(replicas, list) or not replicas:
        raise UserError("`replicas` of metrics.json must be a list of replicas")
    finite_numbers = []
    for replica in replicas:
        if not isinstance(replica, dict):
            raise UserError("`replicas` of metrics.json must be a list of mappings")
        for name, value in replica.items():
            require(value is None or is_finite_number(value), name, "a number", value)
            require(value is None or is_possible(name, value), name, "a fraction", value)
        seed: Any = replica.get("seed")
        require(isinstance(seed, int) and seed >= 0, "seed", "a whole number", seed)
        finite_numbers.append({name: value for name, value in replica.items() if value is not None})
    return finite_numbers


def is_possible(metric: str, value: float) -> bool:
    """Whether a metric can have this value. Other numbers than metrics can have any."""
    if metric.startswith(ACCURACIES):
        return 0 <= value <= 1
    return not metric.startswith(ACCURACY_DIFFERENCES) or -1 <= value <= 1


def is_finite_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_accuracy_per_replica(path: Path, replica_count: int) -> np.ndarray:
    """The accuracies [R, T + 1, T] of accuracy.csv; UserError where it is not what a run writes:
    the replicas 0, 1, ... each after 0, 1, ... T tasks."""
    columns = read_columns(path, LARGEST_FILE)
    tasks = len(columns) - 2
    rows = len(columns.get("replica", ()))
    are_counts_right = 1 <= tasks <= MOST_TASKS and rows == replica_count * (tasks + 1)
    if not are_counts_right or not are_rows_in_order(columns, tasks):
        raise UserError(
            f"{path.name} must have T + 1 rows and T tasks of {counted(replica_count, 'replica')}"
        )
    matrix = np.stack([column for name, column in columns.items() if name.startswith("task_")], 1)
    if matrix.shape[1] != tasks or not ((matrix >= 0) & (matrix <= 1)).all():
        raise UserError(f"{path.name} must hold fractions of `task_1` to `task_{tasks}`")
    return matrix.reshape(replica_count, tasks + 1, tasks)


def check_agreement(
    replicas: Sequence[dict[str, float]], accuracies: np.ndarray, config: Mapping[str, Any]
) -> None:
    """Raise UserError where metrics of replicas are not those of their accuracies [R, T + 1, T].

    config: of the run, with the convention of its metrics; that of earlier versions has none.
    """
    settings = config.get("metrics")
    settings = settings if isinstance(settings, dict) else {}
    convention = settings.get("convention", "standard")
    for replica, accuracy_matrix in zip(replicas, accuracies, strict=True):
        for name, value in metrics(accuracy_matrix, convention=convention).items():
            if abs(replica.get(name, value) - value) > CSV_ROUNDING:
                raise UserError(
                    f"`{name}` of metrics.json must be that of accuracy.csv, {value:g}, "
                    f"found {replica[name]:g}"
                )


def are_rows_in_order(columns: Mapping[str, np.ndarray], tasks: int) -> bool:
    """Whether the rows of accuracy.csv are those of replica 0 after 0, 1, ... tasks, then those of
    replica 1, and so on."""
    row_numbers = np.arange(len(columns["replica"]))
    replicas, tasks_done = np.divmod(row_numbers, tasks + 1)
    return np.array_equal(columns["replica"], replicas) and np.array_equal(
        columns.get("after_task", ()), tasks_done
    )


def read_columns(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The columns of numbers of a csv file, by name; NaN where a cell is empty. UserError where it
    holds anything else or is larger than `max_bytes`."""
    try:
        header, *lines = read_bounded(path, max_bytes).decode().splitlines()
        names = header.split(",")
        cells = [float(cell) if cell else math.nan for line in lines for cell in line.split(",")]
        table = np.array(cells).reshape(len(lines), len(names))
    except ValueError as error:  # of letters, numbers and rows
        raise UserError(f"{path.name} must be a table of numbers") from error
    return {name: table[:, number] for number, name in enumerate(names)}
