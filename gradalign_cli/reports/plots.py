"""Which figures a report has, and those that show seeds and costs."""

from collections.abc import Sequence

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.alignment_plots import alignment_plots, memory_hurting_plot
from gradalign_cli.reports.curve_plots import first_steps_plot, so_far_plot, stability_gap_plot
from gradalign_cli.reports.curves import alignment_columns
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.matrix_plots import accuracy_heat_maps, forgetting_plot, task_curves_plot
from gradalign_cli.reports.plot import (
    MOST_DOTS,
    MOST_LINES,
    Plot,
    first_groups,
    note_on_shown_rows,
    number_text,
    short_label,
)
from gradalign_cli.reports.rows import Row
from gradalign_cli.reports.text import percent

MEBIBYTE = 2**20


def report_plots(rows: Sequence[Row]) -> list[Plot]:
    """The figures of these rows, without those that have nothing to show."""
    groups = {short_label(row.group.label, n): row.group for n, row in enumerate(rows)}
    alignment_of_label = {
        label: alignment_columns(group) for label, group in first_groups(groups, MOST_LINES).items()
    }
    plots = [
        seed_plot(groups),
        accuracy_heat_maps(groups),
        forgetting_plot(groups),
        task_curves_plot(groups),
        so_far_plot(groups),
        first_steps_plot(groups),
        stability_gap_plot(groups),
        *alignment_plots(groups, alignment_of_label),
        memory_hurting_plot(groups),
        cost_plot(groups),
    ]
    return [plot for plot in plots if plot is not None]


def run_page_plots(rows: Sequence[Row]) -> list[Plot]:
    """The figures of a run's own page: few, as every run draws them at its end."""
    groups = {short_label(row.group.label, n): row.group for n, row in enumerate(rows)}
    alignment_of_label = {
        label: alignment_columns(group) for label, group in first_groups(groups, MOST_LINES).items()
    }
    cosine, *_ = alignment_plots(groups, alignment_of_label)
    plots = [accuracy_heat_maps(groups), so_far_plot(groups), stability_gap_plot(groups), cosine]
    return [plot for plot in plots if plot is not None]


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
    sentence = "A dot is a seed, the upright bar is the mean. High ACC and low forgetting are good."
    return Plot(
        "seeds",
        "ACC and forgetting, every seed",
        sentence + note_on_shown_rows(groups, MOST_DOTS),
        lambda width: figures.seed_dots(values, width),
        ["setting", "metric", "seed", "%"],
        numbers,
    )


def mean_cost_of_a_seed(group: Group, name: str) -> float:
    """The mean over the seeds of the group of a cost of record.json."""
    return float(np.mean([run.cost_per_replica(name) for run, _ in group.replica_of_seed.values()]))


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
        "memory (MiB)": ("kept_bytes", MEBIBYTE),
    }
    costs = {
        title: {label: mean_cost_of_a_seed(group, name) / unit for label, group in shown.items()}
        for title, (name, unit) in units.items()
    }
    accuracy = {label: float(np.mean(list(g.values("ACC").values()))) for label, g in shown.items()}
    return Plot(
        "cost",
        "Cost against accuracy",
        "A point is a setting, its cost that of one seed. A backward pass counts as one, whatever "
        "its batch; memory is what is stored of earlier tasks, also where a method does not read "
        "it. Up and to the left is better. The dashed line joins those that no other setting beats."
        + note_on_shown_rows(groups, MOST_LINES),
        lambda width: figures.cost_against_accuracy(costs, accuracy, width),
        ["setting", "ACC (%)", *costs],
        [
            [label, percent(accuracy[label]), *(number_text(c[label]) for c in costs.values())]
            for label in shown
        ],
    )
