"""What files of a run say about training, as curves over the seeds of a group.

Time is counted in tasks: 1.5 is the middle of the second task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradalign_cli.errors import UserError
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.run import Run
from gradalign_cli.results.run_files import read_columns
from gradalign_cli.results.significance import t_quantile

LARGEST_CURVES = 2**26  # bytes of alignment.csv and of continual.csv
BINS_A_TASK, MOST_BINS = 12, 120
ALIGNMENT_COLUMNS = ("replica", "task", "step", "cosine", "violated", "norm_ratio")
Columns = dict[str, np.ndarray]  # of a file, by name
AverageFunction = Callable[[np.ndarray], np.floating[Any]]
Curve = tuple[np.ndarray, np.ndarray]  # x, y


def curve_columns(run: Run, file_name: str, required_names: Sequence[str]) -> Columns:
    """The columns of a file of the run, empty where it has no such file or the file is not that of
    a run."""
    if not (run.folder / file_name).is_file():
        return {}
    try:
        columns = read_columns(run.folder / file_name, LARGEST_CURVES)
    except UserError:
        return {}
    tasks = run.accuracy.shape[2]
    if not all(name in columns for name in required_names) or not len(columns["task"]):
        return {}
    fits = (columns["task"] >= 1) & (columns["task"] <= tasks) & (columns["step"] >= 0)
    if not fits.all():
        return {}
    return columns | {"steps_of_task": steps_of_task(columns, mean_steps_of_a_task(run))}


def mean_steps_of_a_task(run: Run) -> float:
    """The steps of a replica by the number of tasks, 0 where the record does not tell."""
    steps = run.record.get("steps")
    replicas_and_tasks = len(run.accuracy) * run.accuracy.shape[2]
    return steps / replicas_and_tasks if isinstance(steps, int) else 0.0


def steps_of_task(columns: Columns, mean_steps: float) -> np.ndarray:
    """The number of steps of the task of each row.

    Rows at every k-th step from the first on tell it but for the k - 1 steps after the last row;
    within these bounds it is taken as `mean_steps`, the mean of all tasks. Other rows end with the
    task's last step.
    """
    task, step = columns["task"], columns["step"]
    tasks, place_of_row = np.unique(task, return_inverse=True)
    lengths = np.ones(len(tasks))
    for place, number in enumerate(tasks):
        steps = np.unique(step[task == number])
        strides = np.unique(np.diff(steps)) if len(steps) > 1 else np.array([np.inf])
        is_regular = steps[0] == 1 and len(strides) == 1
        most = steps[-1] + strides[0] - 1 if is_regular else steps[-1]
        lengths[place] = max(1.0, steps[-1], min(mean_steps, most))
    return lengths[place_of_row]


def seed_columns(group: Group, file_name: str, required_names: Sequence[str]) -> list[Columns]:
    """Of each seed of the group the rows of a file; seeds without such rows are left out."""
    files = {run.folder: curve_columns(run, file_name, required_names) for run in group.runs()}
    seeds = []
    for run, number in group.replica_of_seed.values():
        columns = files[run.folder]
        rows = columns["replica"] == number if columns else np.zeros(0, dtype=bool)
        if rows.any():
            seeds.append({name: column[rows] for name, column in columns.items()})
    return seeds


def alignment_columns(group: Group) -> list[Columns]:
    """Of each seed of the group its rows of alignment.csv."""
    return seed_columns(group, "alignment.csv", ALIGNMENT_COLUMNS)


def time_in_tasks(columns: Columns) -> np.ndarray:
    """The time of each row, in tasks."""
    time: np.ndarray = columns["task"] - 1 + columns["step"] / columns["steps_of_task"]
    return time


def binned_mean(columns_of_seeds: Sequence[Columns], column_name: str, task_count: int) -> Curve:
    """A column over time, as a mean over the rows and seeds in each of equally long parts of it:
    the middles of the parts in tasks, and the means. Parts without numbers are left out."""
    bins = min(BINS_A_TASK * task_count, MOST_BINS)
    sums, counts = np.zeros(bins), np.zeros(bins)
    for columns in columns_of_seeds:
        values, time = columns[column_name], time_in_tasks(columns)
        valid = np.isfinite(values)
        place = np.minimum((time[valid] / task_count * bins - 1e-9).astype(int), bins - 1)
        np.add.at(sums, place, values[valid])
        np.add.at(counts, place, 1)
    filled = counts > 0
    middles = (np.arange(bins) + 0.5) * task_count / bins
    return middles[filled], sums[filled] / counts[filled]


def seed_task_averages(
    columns_of_seeds: Sequence[Columns],
    column_name: str,
    task_count: int,
    average_function: AverageFunction,
) -> np.ndarray:
    """Of each seed the average [n, T] of a column over the rows of each task that have a memory to
    be compared with; NaN where there are none."""
    averages = np.full((len(columns_of_seeds), task_count), np.nan)
    for seed, columns in enumerate(columns_of_seeds):
        values = columns[column_name]
        valid = np.isfinite(columns["cosine"]) & np.isfinite(values)
        for task in np.unique(columns["task"][valid]).astype(int):
            averages[seed, task - 1] = average_function(values[valid & (columns["task"] == task)])
    return averages


def memory_hurting_step_share(group: Group) -> float:
    """Of the measured steps the share whose applied update raised the loss on memory to first
    order; NaN where none was measured, and where runs counted them over several settings."""
    counts = [
        (run.record.get("broken_constraints"), run.record.get("measured_steps"))
        for run in group.runs()
        if run.has_one_setting()
    ]
    numbers = [(b, m) for b, m in counts if isinstance(b, int | float) and isinstance(m, int)]
    measured = sum(m for _, m in numbers)
    return sum(b for b, _ in numbers) / measured if measured > 0 else float("nan")


def mean_accuracy_so_far(group: Group) -> np.ndarray:
    """The mean accuracy [n, T] of each seed on the tasks learned so far, after each task."""
    accuracy = group.accuracy()
    tasks = accuracy.shape[2]
    return np.stack([accuracy[:, t, :t].mean(1) for t in range(1, tasks + 1)], 1)


def stability_gap_curve(group: Group) -> Curve:
    """The mean accuracy on the ended tasks in tests between the steps, over time; empty where there
    were none. The task that is being learned is left out: it begins at chance."""
    tasks = group.accuracy().shape[2]
    names = [f"task_{t + 1}" for t in range(tasks)]
    seeds = seed_columns(group, "continual.csv", ("replica", "task", "step", *names))
    for columns in seeds:
        matrix, ended = np.stack([columns[name] for name in names], 1), columns["task"] - 1
        sums = np.where(np.arange(tasks) < ended[:, None], np.nan_to_num(matrix), 0).sum(1)
        columns["accuracy"] = np.where(ended > 0, sums / np.maximum(ended, 1), np.nan)
    return binned_mean(seeds, "accuracy", tasks)


def first_steps_accuracy(group: Group) -> np.ndarray:
    """The accuracy [n, B + 1] of each seed on a task after 0, 1, ... B steps of it, as a mean over
    the tasks; [0, 0] where it was not tested, [n, b + 1] where a seed was tested after b steps."""
    seeds = seed_columns(group, "learning_curves.csv", ("replica", "task", "step", "accuracy"))
    if not seeds:
        return np.zeros((0, 0))
    steps = range(1 + int(min(columns["step"].max() for columns in seeds)))
    return np.array([[c["accuracy"][c["step"] == step].mean() for step in steps] for c in seeds])


def interval_half_width(values: np.ndarray) -> np.ndarray:
    """Half the width [k] of the 95% t-interval of the mean over seeds of values [n, k]; 0 for one
    seed, which has none."""
    n = len(values)
    if n < 2:
        return np.zeros(values.shape[1])
    half_width: np.ndarray = t_quantile(n - 1) * values.std(0, ddof=1) / n**0.5
    return half_width


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """The places of those that no other beats: none is as cheap and better, none cheaper and as
    good. The cheapest comes first. Those whose cost is NaN are left out."""
    with_cost = [place for place in range(len(costs)) if not np.isnan(costs[place])]
    order = sorted(with_cost, key=lambda index: (costs[index], -accuracies[index]))
    best, indices = -np.inf, []
    for index in order:
        if accuracies[index] > best:
            best = accuracies[index]
            indices.append(index)
    return indices
