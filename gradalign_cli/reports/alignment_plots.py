"""The figures of a report on the angle between gradients, and on what it means for the memory."""

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.curves import (
    Columns,
    binned_mean,
    memory_hurting_step_share,
    task_means,
)
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.plot import (
    MOST_DOTS,
    MOST_LINES,
    Plot,
    first_groups,
    line_plot,
    note_on_shown_rows,
    number_text,
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
