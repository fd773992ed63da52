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


def metrics_table(summary: dict[str, Any]) -> Table:
    """Each metric with its 95% interval over replicas; `summary` is that of `metrics.summary`."""
    table = Table()
    table.add_column("metric")
    table.add_column("mean" if summary["ACC"]["n"] == 1 else "mean ± 95%", justify="right")
    for name, metric_summary in summary.items():
        table.add_row(name, mean_with_interval(metric_summary))
    return table


def mean_with_interval(metric_summary: dict[str, Any]) -> str:
    """A metric as text: its mean and half the width of its 95% interval, where it has one."""
    mean, high = metric_summary["mean"], metric_summary["ci95_high"]
    return f"{mean:.4f}" if high is None else f"{mean:.4f} ± {high - mean:.4f}"
