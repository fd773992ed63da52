"""What a run prints: its live progress, and its tables at the end."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from gradalign_cli.training.watcher import Moment

MAIN_METRICS = ("ACC", "BWT", "forgetting")  # of several settings
MAX_COLUMNS, END_COLUMNS = 12, 5  # a longer table shows the first and the last tasks alone


class Display:
    """A watcher that shows a live line of task, steps, loss, ACC so far, cosine and time left. It
    prints nothing where there is no terminal."""

    def __init__(self, console: Console, tasks: int, steps: int) -> None:
        """tasks: the number of tasks;  steps: of all tasks and rounds."""
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measurements]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks = tasks
        self.line = self.progress.add_task(f"task 1/{tasks}", total=steps, measurements="")
        self.accuracy_text = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def begin_round(self, replicas: Sequence[int]) -> None:
        """Nothing: one line shows all rounds."""

    def end_round(self, problem: str | None) -> None:
        """Print a problem above the live line."""
        if problem:
            self.progress.console.print(problem)

    def after_steps(self, moment: Moment) -> bool:
        """Show the newest loss and cosine, as means over replicas."""
        trace = moment.trace
        measurements = f"loss {float(trace.loss[-1].mean()):.3f}{self.accuracy_text}"
        cosine = trace.cosine[moment.measured]
        if cosine.numel() and not cosine[-1].isnan().any():
            measurements += f"  cosine {float(cosine[-1].mean()):+.2f}"
        self.progress.update(
            self.line,
            advance=len(trace.loss),
            description=f"task {moment.task + 1}/{self.tasks}",
            measurements=measurements,
        )
        return False

    def after_test(self, row: int, accuracy: Tensor) -> None:
        """Show the mean accuracy on the tasks learned so far."""
        if row:
            self.accuracy_text = f"  ACC {float(accuracy[:, :row].mean()):.3f}"


def mean_percent(accuracy: np.ndarray) -> str:
    """The mean of accuracies in percent."""
    return f"{100 * accuracy.mean():.1f}"


def matrix_table(title: str, accuracy: np.ndarray) -> Table:
    """The accuracy matrix [R, T + 1, T] in percent, averaged over replicas. With more than 12 tasks
    it shows the first and the last five alone."""
    tasks = accuracy.shape[2]
    shown_tasks = [
        task
        for task in range(tasks)
        if tasks <= MAX_COLUMNS or task < END_COLUMNS or task >= tasks - END_COLUMNS
    ]
    table = Table(title=title, title_justify="left")
    table.add_column("after task", justify="right")
    for task in shown_tasks:
        table.add_column(str(task + 1), justify="right")
    for row in [0, *(task + 1 for task in shown_tasks)]:
        percents = [mean_percent(accuracy[:, row, task]) for task in shown_tasks]
        table.add_row(str(row) if row else "none", *percents)
    if len(shown_tasks) < tasks:
        table.caption = f"tasks {END_COLUMNS + 1} to {tasks - END_COLUMNS} are in accuracy.csv"
    return table


def run_tables(
    settings: list[dict[str, Any]], accuracy: np.ndarray, quick: bool = False
) -> list[Table]:
    """What a finished run shows: the accuracy matrix of each setting and its metrics.

    settings: as in metrics.json;  accuracy: [R, T + 1, T] of replicas in the order of the settings;
    quick: whether the titles say that this was a quick run.
    """
    mark = "a quick run" if quick else ""
    title, tables, first = "accuracy on task 1, 2, ... in percent", [], 0
    title += f", {mark}" * quick
    for setting in settings:
        seeds = setting["ACC"]["n"]
        part = accuracy[first : first + seeds]
        tables.append(matrix_table(f"{title}{setting_text(setting, settings)}", part))
        first += seeds
    summary = metrics_table(settings[0]) if len(settings) == 1 else settings_table(settings)
    summary.title, summary.title_justify = mark or None, "left"
    return [*tables, summary]


def setting_text(setting: dict[str, Any], settings: list[dict[str, Any]]) -> str:
    """What tells a setting from the others of the run, such as `, lr=0.1`."""
    varying = [
        name for name in numeric_settings_of(setting) if len({s[name] for s in settings}) > 1
    ]
    return "".join(f", {name}={setting[name]:g}" for name in varying)


def numeric_settings_of(setting: dict[str, Any]) -> list[str]:
    """The names of a setting's numbers; its other entries are summaries of metrics."""
    return [name for name, value in setting.items() if not isinstance(value, dict)]


def metrics_table(setting: dict[str, Any]) -> Table:
    """Each metric of one setting with its 95% interval over seeds."""
    table = Table()
    table.add_column("metric")
    table.add_column("mean" if setting["ACC"]["n"] == 1 else "mean ± 95%", justify="right")
    for name, metric_summary in setting.items():
        if name not in numeric_settings_of(setting):
            table.add_row(name, mean_with_interval(metric_summary))
    return table


def settings_table(settings: list[dict[str, Any]]) -> Table:
    """A row for each setting: what tells it from the others, its seeds, and its main metrics with
    their 95% intervals over seeds."""
    names = [name for name in MAIN_METRICS if name in settings[0]]
    table = Table(caption="all metrics are in metrics.json", caption_justify="left")
    table.add_column("setting")
    for column in ("n", *names):
        table.add_column(column, justify="right", no_wrap=True)
    for setting in settings:
        metrics = [mean_with_interval(setting[name]) for name in names]
        label = setting_text(setting, settings).removeprefix(", ")
        table.add_row(label, str(setting["ACC"]["n"]), *metrics)
    return table


def mean_with_interval(metric_summary: dict[str, Any]) -> str:
    """A metric as text: its mean and half the width of its 95% interval, where it has one."""
    mean, high = metric_summary["mean"], metric_summary["ci95_high"]
    return f"{mean:.4f}" if high is None else f"{mean:.4f} ± {high - mean:.4f}"
