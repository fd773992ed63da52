"""The figures of a report that show accuracy over time."""

import numpy as np

from gradalign_cli.reports.curves import (
    first_steps_accuracy,
    interval_half_width,
    mean_accuracy_so_far,
    stability_gap_curve,
)
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.plot import (
    BANDS,
    MOST_LINES,
    Plot,
    first_groups,
    line_plot,
    note_on_shown_rows,
)


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
        "After each task, over all tasks learned up to then. Its mean is AAA, the average "
        f"incremental accuracy. {BANDS}" + note_on_shown_rows(groups, MOST_LINES),
        ("after task", "accuracy (%)"),
        lines,
        has_markers=True,
        half_width_of_label=half_widths,
    )


def first_steps_plot(groups: dict[str, Group]) -> Plot | None:
    """The learning curve of the first batches of a task."""
    lines, half_widths = {}, {}
    for label, group in first_groups(groups, MOST_LINES).items():
        percents = 100 * first_steps_accuracy(group)
        lines[label] = np.arange(percents.shape[1]), percents.sum(0) / max(1, len(percents))
        half_widths[label] = interval_half_width(percents)
    return line_plot(
        "learning_curve",
        "The first steps of a task",
        "Accuracy on a task after its first training steps, as a mean over tasks. The mean of a "
        "curve is LCA, the area under it: a curve that rises early learns from few examples. "
        + BANDS
        + note_on_shown_rows(groups, MOST_LINES),
        ("steps of the task", "accuracy on the task (%)"),
        lines,
        has_markers=True,
        half_width_of_label=half_widths,
    )


def stability_gap_plot(groups: dict[str, Group]) -> Plot | None:
    """The mean accuracy on the tasks so far in tests between the steps."""
    lines = {}
    for label, group in first_groups(groups, MOST_LINES).items():
        time, accuracy = stability_gap_curve(group)
        lines[label] = time, 100 * accuracy
    return line_plot(
        "stability_gap",
        "The stability gap",
        "Mean accuracy on the tasks that have ended, tested between the steps; a mean over seeds. "
        "A dip at the start of a task that heals later is the stability gap."
        + note_on_shown_rows(groups, MOST_LINES),
        ("tasks trained", "accuracy on ended tasks (%)"),
        lines,
    )
