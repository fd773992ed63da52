"""Which figures a report has: each with a title, a sentence to read it by, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.curves import (
    Columns,
    alignment_columns,
    binned_mean,
    continual_accuracy,
    interval_half_width,
    learning_curves,
    mean_accuracy_so_far,
    memory_hurting_step_share,
    task_means,
)
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.rows import Row
from gradalign_cli.reports.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES, MOST_PANELS, MOST_DOTS = 8, 6, 30  # rows that a figure shows, the best ones
LONGEST_LABEL = 40  # letters
MEBIBYTE = 2**20
BANDS = "Lines are means over seeds, bands their 95% intervals."


class Plot(NamedTuple):
    """A figure of a report.

    name: of its file;  title;  caption: how to read it;  draw: makes the figure at a width in
    inches;  table_columns, table_rows: what it shows, as a table.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[float], Figure]
    table_columns: list[str]
    table_rows: list[list[str]]


def report_plots(rows: Sequence[Row]) -> list[Plot]:
    """The figures of these rows, without those that have nothing to show."""
    groups = {short_label(row.group.label, n): row.group for n, row in enumerate(rows)}
    alignment_of_label = {
        label: alignment_columns(group) for label, group in first_groups(groups, MOST_LINES).items()
    }
    plots = [
        seed_plot(groups),
        accuracy_plot(groups),
        forgetting_plot(groups),
        task_plot(groups),
        so_far_plot(groups),
        learning_plot(groups),
        continual_plot(groups),
        *alignment_plots(groups, alignment_of_label),
        memory_hurting_plot(groups),
        cost_plot(groups),
    ]
    return [plot for plot in plots if plot is not None]


def run_plots(rows: Sequence[Row]) -> list[Plot]:
    """The figures of a run's own page: few, as every run draws them at its end."""
    groups = {short_label(row.group.label, n): row.group for n, row in enumerate(rows)}
    alignment_of_label = {
        label: alignment_columns(group) for label, group in first_groups(groups, MOST_LINES).items()
    }
    cosine, *_ = alignment_plots(groups, alignment_of_label)
    plots = [accuracy_plot(groups), so_far_plot(groups), continual_plot(groups), cosine]
    return [plot for plot in plots if plot is not None]


def short_label(label: str, row_index: int) -> str:
    """A label that fits a figure; what is cut is told apart by the number of the row."""
    return (
        label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 6]}... {row_index + 1}"
    )


def first_groups(groups: dict[str, Group], count: int) -> dict[str, Group]:
    """The first groups."""
    return dict(list(groups.items())[:count])


def note_on_shown_rows(groups: dict[str, Group], shown_count: int) -> str:
    """That only some rows are shown, where that is so."""
    return (
        f" The first {shown_count} of {len(groups)} rows are shown."
        if len(groups) > shown_count
        else ""
    )


def number_text(value: float, digits: int = 3) -> str:
    """A number of a figure's table; a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:.{digits}g}"


def seed_plot(groups: dict[str, Group]) -> Plot:
    """ACC and forgetting of every seed."""
    shown = first_groups(groups, MOST_DOTS)
    names = [n for n in ("ACC", "forgetting") if any(n in g.metrics() for g in shown.values())]
    values = {n: {label: list(g.values(n).values()) for label, g in shown.items()} for n in names}
    numbers = [
        [label, name, str(seed), percent(value)]
        for name in names
        for label, group in shown.items()
        for seed, value in group.values(name).items()
    ]
    sentence = "A dot is a seed, the line across is the mean. High ACC and low forgetting are good."
    return Plot(
        "seeds",
        "ACC and forgetting, every seed",
        sentence + note_on_shown_rows(groups, MOST_DOTS),
        lambda width: figures.seed_dots(values, width),
        ["setting", "metric", "seed", "%"],
        numbers,
    )


def matrix_table_rows(matrices: dict[str, np.ndarray]) -> list[list[str]]:
    """A row for each row of each matrix [rows, T], in percent; empty where it is NaN."""
    return [
        [
            label,
            str(matrix.shape[1] - len(matrix) + 1 + i),
            ", ".join("" if np.isnan(value) else f"{100 * value:.1f}" for value in row),
        ]
        for label, matrix in matrices.items()
        for i, row in enumerate(matrix)
    ]


MATRIX_COLUMNS = ["setting", "after task", "task 1, 2, ... (%)"]


def accuracy_plot(groups: dict[str, Group]) -> Plot:
    """The accuracy matrix of each group, as a mean over its seeds."""
    shown = first_groups(groups, MOST_PANELS)
    matrices = {label: group.accuracy().mean(0) for label, group in shown.items()}
    sentence = (
        "Row i is after task i, row 0 the untrained network; column j is the accuracy on task j, "
        "as a mean over seeds. A column that turns dark downwards is a task being forgotten."
    )
    return Plot(
        "accuracy",
        "Accuracy on each task after each task",
        sentence + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.heat_maps(matrices, "accuracy", width),
        MATRIX_COLUMNS,
        matrix_table_rows(matrices),
    )


def forgetting_plot(groups: dict[str, Group]) -> Plot | None:
    """How far each task is below its best so far, as a mean over seeds."""
    matrices = {}
    for label, group in first_groups(groups, MOST_PANELS).items():
        accuracy = group.accuracy()  # [n, T + 1, T]
        if accuracy.shape[2] > 1:
            matrices[label] = forgetting_matrices(accuracy).mean(0)[1:]
    if not matrices:
        return None
    sentence = (
        "Row i, column j: the best accuracy on task j after an earlier task than i, minus that "
        "after task i, as a mean over seeds. Bright cells are forgotten tasks; below 0 counts as 0 "
        "in the colour."
    )
    return Plot(
        "forgetting",
        "Forgetting of each task after each task",
        sentence + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.heat_maps(matrices, "forgetting", width),
        MATRIX_COLUMNS,
        matrix_table_rows(matrices),
    )


def forgetting_matrices(accuracy: np.ndarray) -> np.ndarray:
    """The forgetting matrices [n, T + 1, T] of accuracy matrices."""
    from gradalign_cli.results.metrics import forgetting_matrix

    return np.stack([forgetting_matrix(matrix) for matrix in accuracy])


def task_plot(groups: dict[str, Group]) -> Plot:
    """The accuracy on each task over time."""
    matrices = {
        label: g.accuracy().mean(0) for label, g in first_groups(groups, MOST_PANELS).items()
    }
    return Plot(
        "tasks",
        "Each task's accuracy over time",
        "A line is a task, from the moment it was learned; means over seeds. Lines that fall are "
        "forgotten." + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.task_curves(matrices, width),
        MATRIX_COLUMNS,
        matrix_table_rows({label: matrix[1:] for label, matrix in matrices.items()}),
    )


def line_plot(
    name: str,
    title: str,
    caption: str,
    axis_labels: tuple[str, str],
    curve_of_label: figures.Curves,
    has_markers: bool = False,
    has_zero_line: bool = False,
    half_width_of_label: Mapping[str, np.ndarray] | None = None,
) -> Plot | None:
    """A plot of lines, None where all are empty;  axis_labels: the names of x and y;
    half_width_of_label: of the band about each line."""
    if not any(len(x) for x, _ in curve_of_label.values()):
        return None
    table_rows = [
        [label, number_text(a, 4), number_text(b)]
        for label, (x, y) in curve_of_label.items()
        for a, b in zip(x, y, strict=True)
    ]
    draw = partial(
        figures.curves,
        curve_of_label,
        *axis_labels,
        has_markers=has_markers,
        has_zero_line=has_zero_line,
        half_width_of_label=half_width_of_label or {},
    )
    return Plot(name, title, caption, draw, ["setting", *axis_labels], table_rows)


def so_far_plot(groups: dict[str, Group]) -> Plot | None:
    """The mean accuracy on the tasks learned so far."""
    lines, half_widths = {}, {}
    for label, group in first_groups(groups, MOST_LINES).items():
        percents = 100 * mean_accuracy_so_far(group)
        lines[label] = np.arange(1, percents.shape[1] + 1), percents.mean(0)
        half_widths[label] = interval_half_width(percents)
    return line_plot(
        "so_far",
        "Mean accuracy on the tasks so far",
        f"After each task, over all tasks learned up to then. Its mean is AAA. {BANDS}"
        + note_on_shown_rows(groups, MOST_LINES),
        ("after task", "accuracy (%)"),
        lines,
        has_markers=True,
        half_width_of_label=half_widths,
    )


def learning_plot(groups: dict[str, Group]) -> Plot | None:
    """The learning curve of the first batches of a task."""
    lines, half_widths = {}, {}
    for label, group in first_groups(groups, MOST_LINES).items():
        percents = 100 * learning_curves(group)
        lines[label] = np.arange(percents.shape[1]), percents.sum(0) / max(1, len(percents))
        half_widths[label] = interval_half_width(percents)
    return line_plot(
        "learning_curve",
        "The first batches of a task",
        "Accuracy on a task after its first training steps, as a mean over tasks. The mean of a "
        f"curve is LCA: a curve that rises early learns from few examples. {BANDS}"
        + note_on_shown_rows(groups, MOST_LINES),
        ("steps of the task", "accuracy on the task (%)"),
        lines,
        has_markers=True,
        half_width_of_label=half_widths,
    )


def continual_plot(groups: dict[str, Group]) -> Plot | None:
    """The mean accuracy on the tasks so far in tests between the steps."""
    lines = {}
    for label, group in first_groups(groups, MOST_LINES).items():
        time, accuracy = continual_accuracy(group)
        lines[label] = time, 100 * accuracy
    return line_plot(
        "stability_gap",
        "The stability gap",
        "Mean accuracy on the tasks so far, tested between the steps. A dip at the start of a task "
        "that heals later is the stability gap." + note_on_shown_rows(groups, MOST_LINES),
        ("tasks trained", "accuracy (%)"),
        lines,
    )


def alignment_plots(
    groups: dict[str, Group], alignment_of_label: dict[str, list[Columns]]
) -> list[Plot | None]:
    """Cosine over time, violations by task, and the share of the gradient that is followed.

    alignment_of_label: of each label the rows of alignment.csv of each seed.
    """
    more = note_on_shown_rows(groups, MOST_LINES)
    tasks = {label: groups[label].accuracy().shape[2] for label in alignment_of_label}
    cosines = {
        label: binned_mean(c, "cosine", tasks[label]) for label, c in alignment_of_label.items()
    }
    by_task: dict[str, figures.Curves] = {}
    for column, factor in (("violated", 100), ("norm_ratio", 1)):
        lines = {}
        for label, columns in alignment_of_label.items():
            means = factor * task_means(columns, column, tasks[label])
            valid = np.isfinite(means)
            lines[label] = np.flatnonzero(valid) + 1, means[valid]
        by_task[column] = lines
    return [
        line_plot(
            "cosine",
            "The angle: new gradient against memory gradient",
            "Cosine of the angle between the gradient on new data and the gradient on memory, as a "
            "mean over seeds. Below 0 a step on new data hurts the memory." + more,
            ("tasks trained", "cosine"),
            cosines,
            has_zero_line=True,
        ),
        line_plot(
            "violations",
            "How often the new gradient hurts the memory",
            "Share of the measured steps of a task whose gradient has a negative dot product with "
            "a gradient on memory, before the method acts." + more,
            ("task", "steps in conflict (%)"),
            by_task["violated"],
            has_markers=True,
        ),
        line_plot(
            "kept",
            "Share of the gradient kept",
            "Length of the direction that is followed, divided by that of the gradient, as a mean "
            "over the steps of a task: 1 where the method changes nothing." + more,
            ("task", "direction / gradient"),
            by_task["norm_ratio"],
            has_markers=True,
        ),
    ]


def memory_hurting_plot(groups: dict[str, Group]) -> Plot | None:
    """How often the applied update hurt the memory."""
    shares = {
        label: 100 * memory_hurting_step_share(g)
        for label, g in first_groups(groups, MOST_DOTS).items()
    }
    if not any(np.isfinite(share) for share in shares.values()):
        return None
    return Plot(
        "hurt",
        "How often the applied step hurt the memory",
        "Share of the measured steps whose update, after method and optimizer, raised the loss on "
        "memory to first order." + note_on_shown_rows(groups, MOST_DOTS),
        lambda width: figures.bars(shares, "steps that hurt the memory (%)", width),
        ["setting", "steps (%)"],
        [[label, number_text(share)] for label, share in shares.items()],
    )


def cost_plot(groups: dict[str, Group]) -> Plot | None:
    """What accuracy costs."""
    shown = {
        label: group
        for label, group in first_groups(groups, MOST_LINES).items()
        if group.values("ACC") and all(run.record.get("backward_passes") for run in group.runs())
    }
    if not shown:
        return None
    units = {
        "backward passes": ("backward_passes", 1.0),
        "training (s)": ("training_seconds", 1.0),
        "kept (MiB)": ("kept_bytes", MEBIBYTE),
    }
    costs = {
        title: {
            label: float(np.mean([run.cost(name) for run in group.runs()])) / unit
            for label, group in shown.items()
        }
        for title, (name, unit) in units.items()
    }
    accuracy = {label: float(np.mean(list(g.values("ACC").values()))) for label, g in shown.items()}
    return Plot(
        "cost",
        "Cost against accuracy",
        "A point is a setting, its cost that of one seed; kept is what is stored of earlier tasks. "
        "Up and to the left is better. The grey line joins those that no other setting beats."
        + note_on_shown_rows(groups, MOST_LINES),
        lambda width: figures.cost_against_accuracy(costs, accuracy, width),
        ["setting", "ACC (%)", *costs],
        [
            [label, percent(accuracy[label]), *(number_text(c[label]) for c in costs.values())]
            for label in shown
        ],
    )
