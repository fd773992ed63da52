"""The figures of a report on the angle between gradients, and on what it means for the memory."""

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.curves import (
    AverageFunction,
    Columns,
    binned_mean,
    interval_half_width,
    memory_hurting_step_share,
    seed_task_averages,
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
    """Cosine over time, violations by task, and the length of the direction that is followed.

    alignment_of_label: of each label the rows of alignment.csv of each seed.
    """
    more = note_on_shown_rows(groups, MOST_LINES)
    tasks = {label: groups[label].accuracy().shape[2] for label in alignment_of_label}

    def by_task(column_name: str, average_function: AverageFunction) -> dict[str, np.ndarray]:
        """Of each label the averages [n, T] of a column, see `seed_task_averages`."""
        return {
            label: seed_task_averages(columns, column_name, tasks[label], average_function)
            for label, columns in alignment_of_label.items()
        }

    violated_shares = by_task("violated", np.mean)
    return [
        line_plot(
            "cosine",
            "The angle: new gradient against memory gradient",
            "Cosine of the angle between the gradient on new data and the gradient on memory, the "
            "smallest one where a method has several; a mean over seeds. Below 0 a plain step on "
            "new data hurts the memory. Methods without such a gradient have no line." + more,
            ("tasks trained", "cosine"),
            {
                label: binned_mean(columns, "cosine", tasks[label])
                for label, columns in alignment_of_label.items()
            },
            has_zero_line=True,
        ),
        task_line_plot(
            "violations",
            "How often the new gradient hurts the memory",
            "Share of the measured steps of a task whose gradient has a negative dot product with "
            "a gradient on memory, before the method acts. A method with one such gradient for "
            f"each task counts a step where any of them is hurt. {BANDS}" + more,
            "steps in conflict (%)",
            {label: 100 * shares for label, shares in violated_shares.items()},
        ),
        task_line_plot(
            "kept",
            "Length of the direction that is followed",
            "Divided by the length of the gradient, a median over the steps of a task. Below 1 a "
            "method takes something away. Above 1 it adds, as where a margin asks for more than no "
            f"harm. {BANDS}" + more,
            "length / gradient's",
            by_task("norm_ratio", np.median),  # a gradient that is nearly 0 spoils a mean
        ),
    ]


def task_line_plot(
    name: str, title: str, caption: str, y_label: str, seed_values_of_label: dict[str, np.ndarray]
) -> Plot | None:
    """A plot of `seed_values_of_label`, the values [n, T] of n seeds by task, as means
    with the bands of their 95% intervals. Tasks of which a seed has none are left out."""
    lines, half_widths = {}, {}
    for label, values in seed_values_of_label.items():
        if not len(values):
            continue
        in_all_seeds = np.isfinite(values).all(0)
        lines[label] = np.flatnonzero(in_all_seeds) + 1, values[:, in_all_seeds].mean(0)
        half_widths[label] = interval_half_width(values[:, in_all_seeds])
    axis_labels = "task", y_label
    return line_plot(
        name, title, caption, axis_labels, lines, has_markers=True, half_width_of_label=half_widths
    )


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
        "memory to first order. It is measured for methods with a gradient on memory, and counted "
        "for a run as a whole: a row of a run of several settings has none."
        + note_on_shown_rows(groups, MOST_DOTS),
        lambda width: figures.bars(shares, "steps that hurt the memory (%)", width),
        ["setting", "steps (%)"],
        [[label, number_text(share)] for label, share in shares.items()],
    )
