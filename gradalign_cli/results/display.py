"""What a run prints: its live progress, and its tables at the end."""

from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from torch import Tensor

from gradalign_cli.results.durations import duration_text
from gradalign_cli.results.heat import heat_style
from gradalign_cli.results.remaining_time import RemainingTime
from gradalign_cli.results.run_files import exact_number_text
from gradalign_cli.training.watcher import Moment, State, TaskStopFlag

MAIN_METRICS = ("ACC", "BWT", "forgetting")  # of several settings
LEAST_BAR, WIDEST_BAR = 10, 40
WORTH_SAYING_SECONDS, LONG_SECONDS = 10, 600
MAX_COLUMNS, END_COLUMNS = 12, 5  # a longer table shows the first and the last tasks alone


class Display:
    """A watcher that shows a live line of what trains, loss, ACC so far, cosine and time left, and
    says once how long the run will take. Without a terminal it says that alone."""

    def __init__(
        self, console: Console, remaining_time: RemainingTime, long_run_advice: str = ""
    ) -> None:
        """remaining_time: of the run;  long_run_advice: how to try a long run in small."""
        self.console, self.remaining_time, self.long_run_advice = (
            console,
            remaining_time,
            long_run_advice,
        )
        self.tasks, self.group_text = len(remaining_time.work.task_steps), ""
        self.measurements = self.accuracy_text = ""
        self.said_end = 0.0  # by the clock of `remaining_time`, when the run was last said to end
        self.live = Live(
            console=console, get_renderable=self.line, transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.live.stop()

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """Say which of all replicas train, where others train before or after them."""
        self.remaining_time.begin_replica_group(replica_numbers)
        first, whole = self.remaining_time.finished_replicas + 1, self.remaining_time.replicas
        last = first + len(replica_numbers) - 1
        numbers = f"s {first}-{last}" if last > first else f" {first}"
        self.group_text = f"replica{numbers} of {whole}, " if len(replica_numbers) < whole else ""

    def end_replica_group(self, problem: str | None) -> None:
        """Print a problem above the live line."""
        self.remaining_time.end_replica_group(problem)
        if problem:
            self.console.print(problem)

    def after_steps(self, moment: Moment) -> TaskStopFlag:
        """Show the newest loss and cosine, as means over replicas."""
        trace = moment.trace
        self.measurements = f"loss {float(trace.loss[-1].mean()):.3f}{self.accuracy_text}"
        cosine = trace.cosine[moment.measured_step_mask]
        if cosine.numel() and not cosine[-1].isnan().any():
            self.measurements += f"  cosine {float(cosine[-1].mean()):+.2f}"
        self.remaining_time.after_steps(moment)
        self.say_time_left()
        return False

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Show the mean accuracy on the tasks learned so far."""
        self.remaining_time.after_test(ended_tasks, accuracy)
        if ended_tasks:
            self.accuracy_text = f"  ACC {float(accuracy[:, :ended_tasks].mean()):.3f}"

    def state(self) -> State:
        """How much is done."""
        return {"forecast": self.remaining_time.state(), "group_text": self.group_text}

    def restore(self, state: State) -> None:
        """Go on from there; times are measured anew."""
        self.remaining_time.restore(state["forecast"])
        self.group_text = state["group_text"]

    def say_time_left(self) -> None:
        """Say how long the run will still take, once its steps were measured, and again where that
        was wrong by more than a factor of two; of a run of seconds nothing."""
        left, now = self.remaining_time.seconds_left(), self.remaining_time.clock()
        if left is None or not self.remaining_time.has_measured_enough():
            return
        said_left = self.said_end - now
        if self.said_end and said_left / 2 <= left <= 2 * said_left:
            return
        was_said, self.said_end = bool(self.said_end), now + left
        if left >= WORTH_SAYING_SECONDS:
            advice = self.long_run_advice if left > LONG_SECONDS and not was_said else ""
            text = f"about {duration_text(left)} to go{advice}"
            self.console.print(f"now {text}" if was_said else text, soft_wrap=True)

    def line(self) -> Table:
        """The live line, as wide as the terminal."""
        remaining_time = self.remaining_time
        left = remaining_time.seconds_left()
        if left is not None:  # it goes on falling between two looks
            left = max(0.0, left - (remaining_time.clock() - remaining_time.mark))
        task = min(remaining_time.task + 1, self.tasks)
        steps = remaining_time.work.task_steps[task - 1]
        return progress_line(
            self.console.width,
            f"{self.group_text}task {task}/{self.tasks}",
            remaining_time.share_done(),
            f"step {min(remaining_time.step, steps)}/{steps}",
            self.measurements,
            time_left_text(left),
        )


def time_left_text(seconds_left: float | None) -> str:
    """The time left as hours, minutes and seconds; dashes before it is known."""
    if seconds_left is None:
        return "-:--:-- left"
    return f"{timedelta(seconds=round(seconds_left))} left"


def progress_line(
    width: int,
    task_text: str,
    share_done: float,
    steps_text: str,
    measurements_text: str,
    time_left: str,
) -> Table:
    """A line of at most `width` columns. Where there is no room for all, the time left stays
    longest, then the task, the bar of the share that is done, the steps and the measurements."""
    sizes = {"left": len(time_left), "task": len(task_text), "bar": LEAST_BAR}
    sizes |= {"steps": len(steps_text), "measurements": len(measurements_text)}
    shown, room = set(), width
    for name, size in sizes.items():
        if size and size + 1 <= room:
            shown.add(name)
            room -= size + 1
    bar = ProgressBar(total=1, completed=share_done, width=min(WIDEST_BAR, LEAST_BAR + room))
    cells: dict[str, str | ProgressBar] = {
        "task": task_text,
        "bar": bar,
        "steps": steps_text,
        "measurements": measurements_text,
        "left": time_left,
    }
    line = Table.grid(padding=(0, 1))
    for name in cells:
        if name in shown:
            line.add_column(no_wrap=True)
    line.add_row(*(cell for name, cell in cells.items() if name in shown))
    return line


def mean_percent(averaged_accuracies: np.ndarray) -> str:
    """The mean of accuracies in percent."""
    return f"{100 * averaged_accuracies.mean():.1f}"


def mean_accuracy_cell(averaged_accuracies: np.ndarray) -> Text:
    """The mean of accuracies in percent, on its colour."""
    return Text(mean_percent(averaged_accuracies), heat_style(float(averaged_accuracies.mean())))


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
        percents = [mean_accuracy_cell(accuracy[:, row, task]) for task in shown_tasks]
        table.add_row(str(row) if row else "none", *percents)
    if len(shown_tasks) < tasks:
        table.caption = f"tasks {END_COLUMNS + 1} to {tasks - END_COLUMNS} are in accuracy.csv"
    return table


def run_tables(
    setting_summaries: list[dict[str, Any]], accuracy: np.ndarray, quick: bool = False
) -> list[Table]:
    """What a finished run shows: the accuracy matrix of each setting and its metrics.

    setting_summaries: `settings` of metrics.json;  accuracy: [R, T + 1, T] of replicas in the order
    of the settings;  quick: whether the titles say that this was a quick run.
    """
    mark = "a quick run" if quick else ""
    title, tables, first = "accuracy on task 1, 2, ... in percent", [], 0
    title += f", {mark}" * quick
    for summary in setting_summaries:
        seeds = summary["ACC"]["n"]
        part = accuracy[first : first + seeds]
        mean_text = f", mean of {seeds} seeds" if seeds > 1 else ""
        tables.append(
            matrix_table(f"{title}{mean_text}{setting_text(summary, setting_summaries)}", part)
        )
        first += seeds
    single = len(setting_summaries) == 1
    table = metrics_table(setting_summaries[0]) if single else settings_table(setting_summaries)
    table.title, table.title_justify = mark or None, "left"
    return [*tables, table]


def setting_text(setting_summary: dict[str, Any], setting_summaries: list[dict[str, Any]]) -> str:
    """What tells a setting from the others of the run, such as `, lr=0.1`."""
    varying = [
        name
        for name in hyperparameter_names(setting_summary)
        if len({each[name] for each in setting_summaries}) > 1
    ]
    return "".join(f", {name}={exact_number_text(setting_summary[name])}" for name in varying)


def hyperparameter_names(setting_summary: dict[str, Any]) -> list[str]:
    """The names of a setting's numbers; its other entries are summaries of metrics."""
    return [name for name, value in setting_summary.items() if not isinstance(value, dict)]


def metrics_table(setting_summary: dict[str, Any]) -> Table:
    """Each metric of one setting with its 95% interval over seeds."""
    table = Table()
    table.add_column("metric")
    table.add_column(
        "percent" if setting_summary["ACC"]["n"] == 1 else "percent ± 95%", justify="right"
    )
    for name, metric_summary in setting_summary.items():
        if name not in hyperparameter_names(setting_summary):
            table.add_row(name, mean_with_interval(metric_summary))
    return table


def settings_table(setting_summaries: list[dict[str, Any]]) -> Table:
    """A row for each setting: what tells it from the others, its seeds, and its main metrics with
    their 95% intervals over seeds."""
    names = [name for name in MAIN_METRICS if name in setting_summaries[0]]
    table = Table(caption="in percent; all metrics are in metrics.json", caption_justify="left")
    table.add_column("setting")
    for column in ("n", *names):
        table.add_column(column, justify="right", no_wrap=True)
    for summary in setting_summaries:
        metrics = [mean_with_interval(summary[name]) for name in names]
        label = setting_text(summary, setting_summaries).removeprefix(", ")
        table.add_row(label, str(summary["ACC"]["n"]), *metrics)
    return table


def mean_with_interval(metric_summary: dict[str, Any]) -> str:
    """A metric in percent: its mean and half the width of its 95% interval, where it has one."""
    mean, high = metric_summary["mean"], metric_summary["ci95_high"]
    text = f"{100 * mean:.2f}"
    return text if high is None else f"{text} ± {100 * (high - mean):.2f}"
