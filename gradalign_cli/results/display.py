"""What a person sees: the live progress of a run, and its table at the end."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from gradalign_cli.training.watcher import Moment


class Display:
    """A live line of task, step, loss, ACC so far, cosine and time left; quiet off a terminal."""

    def __init__(self, console: Console, tasks: int, steps: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks = tasks
        self.bar = self.progress.add_task(f"task 1/{tasks}", total=steps, shown="")
        self.acc = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def begin_round(self, replicas: Sequence[int]) -> None:
        """All rounds are one line."""

    def end_round(self, problem: str | None) -> None:
        """Show a problem above the live line."""
        if problem:
            self.progress.console.print(problem)

    def after_steps(self, moment: Moment) -> bool:
        """Show the newest loss and cosine, as means over replicas."""
        trace, measured = moment.trace, moment.measured
        shown = f"loss {float(trace.loss[-1].mean()):.3f}{self.acc}"
        cosine = trace.cosine[measured]
        if cosine.numel() and not cosine[-1].isnan().any():
            shown += f"  cosine {float(cosine[-1].mean()):+.2f}"
        self.progress.update(
            self.bar,
            advance=len(trace.loss),
            description=f"task {moment.task + 1}/{self.tasks}",
            shown=shown,
        )
        return False

    def after_test(self, row: int, accuracy: Tensor) -> None:
        """Show the mean accuracy on the tasks learned so far."""
        if row:
            self.acc = f"  ACC {float(accuracy[:, :row].mean()):.3f}"


def percent(values: np.ndarray) -> str:
    """The mean over replicas in percent."""
    return f"{100 * values.mean():.1f}"


def matrix_table(title: str, accuracy: np.ndarray) -> Table:
    """The accuracy matrix [R, T + 1, T] in percent, averaged over replicas; long ones thinned."""
    tasks = accuracy.shape[2]
    shown = [t for t in range(tasks) if tasks <= 12 or t < 5 or t >= tasks - 5]
    table = Table(title=title, title_justify="left")
    table.add_column("after task", justify="right")
    for t in shown:
        table.add_column(str(t + 1), justify="right")
    for row in [0, *(t + 1 for t in shown)]:
        table.add_row(str(row) if row else "none", *(percent(accuracy[:, row, t]) for t in shown))
    if len(shown) < tasks:
        table.caption = f"tasks 6 to {tasks - 5} are in accuracy.csv"
    return table


def metrics_table(summary: dict[str, Any]) -> Table:
    """Each metric with its 95% interval over replicas."""
    table = Table()
    table.add_column("metric")
    table.add_column("mean" if summary["ACC"]["n"] == 1 else "mean ± 95%", justify="right")
    for name, found in summary.items():
        table.add_row(name, interval(found))
    return table


def interval(summary: dict[str, Any]) -> str:
    """A metric as text: mean and half the width of its 95% interval, where there is one."""
    if summary["ci95_high"] is None:
        return f"{summary['mean']:.4f}"
    return f"{summary['mean']:.4f} ± {summary['ci95_high'] - summary['mean']:.4f}"
