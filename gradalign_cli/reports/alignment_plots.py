"""The figures of a report on the angle between gradients, and on what it means for the memory."""

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.curves import (
    Columns,
    Curve,
    binned_mean,
    interval_half_width,
    memory_hurting_step_share,
    task_averages,
)
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.plot import (
    BANDS,
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
    by_task: dict[str, dict[str, Curve]] = {"violated": {}, "norm_ratio": {}}
    half_widths: dict[str, dict[str, np.ndarray]] = {"violated": {}, "norm_ratio": {}}
    # a gradient that is nearly 0 makes a ratio that a mean would not survive
    for column, factor, average in (("violated", 100, np.mean), ("norm_ratio", 1, np.median)):
        for label, columns in alignment_of_label.items():
            means = factor * task_averages(columns, column, tasks[label], average)  # [n, T]
            valid = np.isfinite(means).all(0) & (len(means) > 0)
            by_task[column][label] = (
                np.flatnonzero(valid) + 1,
                means[:, valid].sum(0) / len(columns),
            )
            half_widths[column][label] = interval_half_width(means[:, valid])
    return [
        line_plot(
            "cosine",
            "The angle: new gradient against memory gradient",
            "Cosine of the angle between the gradient on new data and the gradient on memory, the "
            "smallest one where a method has several; a mean over seeds. Below 0 a plain step on "
            "new data hurts the memory. Methods without such a gradient have no line." + more,
            ("tasks trained", "cosine"),
            cosines,
            has_zero_line=True,
        ),
        line_plot(
            "violations",
            "How often the new gradient hurts the memory",
            "Share of the measured steps of a task whose gradient has a negative dot product with "
            "a gradient on memory, before the method acts. A method with one such gradient for "
            f"each task counts a step where any of them is hurt. {BANDS}" + more,
            ("task", "steps in conflict (%)"),
            by_task["violated"],
            has_markers=True,
            half_width_of_label=half_widths["violated"],
        ),
        line_plot(
            "kept",
            "Length of the direction that is followed",
            "Divided by the length of the gradient, a median over the steps of a task. Below 1 a "
            "method takes something away. Above 1 it adds, as where a margin asks for more than "
            f"no harm. {BANDS}" + more,
            ("task", "length / gradient's"),
            by_task["norm_ratio"],
            has_markers=True,
            half_width_of_label=half_widths["norm_ratio"],
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
        "memory to first order. It is measured for methods with a gradient on memory."
        + note_on_shown_rows(groups, MOST_DOTS),
        lambda width: figures.bars(shares, "steps that hurt the memory (%)", width),
        ["setting", "steps (%)"],
        [[label, number_text(share)] for label, share in shares.items()],
    )
