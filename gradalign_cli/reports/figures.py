"""The figures of a report, one function each: from numbers to a matplotlib figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradalign_cli.reports.curves import Curve, pareto_front
from gradalign_cli.reports.style import COLOURS, MARKERS, PAGE_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Curve]  # by label
MOST_CELLS_WITH_NUMBERS = 10  # tasks
MOST_TICKS = 5  # of an axis: half the time of a figure goes into ticks
ROW_HEIGHT = 0.28  # inches
LETTERS_PER_INCH = 15  # of titles and legends
LEGEND_MARK = 6  # letters that a line's sample takes in a legend


def new_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    left_margin_letters: float | None = None,
) -> tuple[Figure, Any]:
    """A figure in inches, and its axes [rows, columns].

    left_margin_letters: the room for texts to the left of a single axes, in letters; None: all
    texts are measured, which takes a third of the time of a figure.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height), layout="constrained" if left_margin_letters is None else None
    )
    if left_margin_letters is not None:
        letter = mpl.rcParams["font.size"] / 72  # inches
        figure.subplots_adjust(
            left=left_margin_letters * letter / width,
            right=1 - 1.5 * letter / width,
            bottom=4 * letter / height,
            top=1 - 2.2 * letter / height,
        )
    return figure, figure.subplots(rows, columns, squeeze=False)


def seed_dots(
    values_by_metric_and_label: Mapping[str, Mapping[str, Sequence[float]]],
    width: float = PAGE_WIDTH,
) -> Figure:
    """Each seed as a dot, with its mean as a line, in percent; a panel for each metric.

    values_by_metric_and_label: by metric and then by label, fractions.
    """
    labels = list(next(iter(values_by_metric_and_label.values())))
    figure, axes = new_figure(
        width, 0.9 + ROW_HEIGHT * len(labels), 1, len(values_by_metric_and_label)
    )
    for axis, (metric, of_label) in zip(axes[0], values_by_metric_and_label.items(), strict=True):
        for place, label in enumerate(labels):
            percents = 100 * np.array(of_label[label])
            if len(percents):
                colour = COLOURS[place % len(COLOURS)]
                axis.plot(percents, [place] * len(percents), "o", color=colour, alpha=0.75)
                axis.plot([percents.mean()] * 2, [place - 0.3, place + 0.3], color=colour)
        axis.set(title=metric, xlabel=f"{metric} (%)", ylim=(len(labels) - 0.5, -0.5))
        axis.set_yticks(range(len(labels)), labels if axis is axes[0, 0] else [""] * len(labels))
    return figure


def heat_maps(
    matrix_of_label: Mapping[str, np.ndarray],
    quantity: str,
    width: float = PAGE_WIDTH,
    dark_is_high: bool = False,
) -> Figure:
    """Matrices [rows, T] in percent, a panel for each label: rows are after tasks, columns are
    tasks. Cells that are NaN stay empty. One matrix whose cells have numbers needs no colour bar.

    matrix_of_label: by label, fractions; their last row is after the last task.
    """
    columns = min(len(matrix_of_label), 3)
    rows = -(-len(matrix_of_label) // columns)
    most_tasks = max(matrix.shape[1] for matrix in matrix_of_label.values())
    has_bar = len(matrix_of_label) > 1 or most_tasks > MOST_CELLS_WITH_NUMBERS
    height = 0.5 + rows * (width / columns + 0.35)
    left_margin_letters = None if has_bar else 4.5
    figure, axes = new_figure(width, height, rows, columns, left_margin_letters)
    image: Any = None
    colours = "cividis_r" if dark_is_high else "cividis"
    x_label = "tested on task" if has_bar else f"tested on task ({quantity} in %)"
    for axis, (label, matrix) in zip(axes.flat, matrix_of_label.items(), strict=False):
        percents, tasks = 100 * matrix, matrix.shape[1]
        first = tasks - len(matrix) + 1  # after which task the first row is
        extent = (0.5, tasks + 0.5, tasks + 0.5, first - 0.5)
        image = axis.imshow(
            percents, vmin=0, vmax=100, cmap=colours, extent=extent, interpolation="nearest"
        )
        if tasks <= MOST_CELLS_WITH_NUMBERS:
            size = 7.0 if width >= PAGE_WIDTH else 4.5
            write_cells(axis, percents, first, size, dark_is_high)
        title = panel_title(label, width / columns)
        axis.set(title=title, xlabel=x_label, ylabel="after task")
        axis.set_aspect("auto")
        axis.grid(False)
        ticks = task_ticks(tasks)
        axis.set_xticks(ticks)
        axis.set_yticks([0, *ticks] if first == 0 else ticks)
    for axis in axes.flat[len(matrix_of_label) :]:
        axis.set_axis_off()
    if has_bar:
        figure.colorbar(image, ax=axes, label=f"{quantity} (%)", location="bottom", aspect=40)
    return figure


def panel_title(label: str, panel_width: float) -> str:
    """A label as the title of a panel so many inches wide, in as many lines as it needs."""
    letters = max(1, int(panel_width * LETTERS_PER_INCH))
    return "\n".join(textwrap.wrap(label, letters, break_long_words=False))


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend fit into so many inches, at least one and at most four."""
    longest = max(map(len, labels)) + LEGEND_MARK
    return max(1, min(4, len(labels), int(width * LETTERS_PER_INCH / longest)))


def task_ticks(task_count: int) -> list[int]:
    """At most five tasks, the first and the last among them, evenly apart."""
    return sorted({round(tick) for tick in np.linspace(1, task_count, min(task_count, 5))})


def write_cells(
    axis: Axes, percents: np.ndarray, first_row_task: int, font_size: float, dark_is_high: bool
) -> None:
    """Write each number into its cell, light on dark and dark on light."""
    for (i, j), value in np.ndenumerate(percents):
        if np.isfinite(value):
            is_dark = value > 45 if dark_is_high else value < 55
            colour = "#ffffff" if is_dark else "#000000"
            axis.text(
                j + 1,
                i + first_row_task,
                f"{round(value)}",
                ha="center",
                va="center",
                color=colour,
                size=font_size,
            ).set_in_layout(False)  # as its cell has room for it


def task_curves(matrix_of_label: Mapping[str, np.ndarray], width: float = PAGE_WIDTH) -> Figure:
    """The accuracy on each task after each task, a panel for each label and a line for each task,
    from the task on in which it was learned.

    matrix_of_label: [T + 1, T] by label, fractions.
    """
    import matplotlib as mpl

    columns = min(len(matrix_of_label), 3)
    rows = -(-len(matrix_of_label) // columns)
    figure, axes = new_figure(width, 0.4 + rows * 1.9, rows, columns)
    for axis, (label, matrix) in zip(axes.flat, matrix_of_label.items(), strict=False):
        tasks = matrix.shape[1]
        shades = mpl.colormaps["viridis"](np.linspace(0.3, 0.8, tasks))
        for task in range(tasks):
            times = np.arange(task + 1, tasks + 1)
            axis.plot(times, 100 * matrix[task + 1 :, task], "o-", color=shades[task])
        title = panel_title(label, width / columns)
        axis.set(title=title, xlabel="after task", ylabel="accuracy (%)", ylim=(-3, 103))
        axis.set_xticks(task_ticks(tasks))
    for axis in axes.flat[len(matrix_of_label) :]:
        axis.set_axis_off()
    shade_map = mpl.colors.LinearSegmentedColormap.from_list(
        "tasks", mpl.colormaps["viridis"](np.linspace(0.3, 0.8, 256))
    )
    tasks = max(matrix.shape[1] for matrix in matrix_of_label.values())
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(1, max(tasks, 2)), shade_map)
    bar = figure.colorbar(scale, ax=axes, label="tested on task", location="bottom", aspect=40)
    bar.set_ticks(
        sorted({1, tasks}), labels=["1 (the first)", f"{tasks} (the last)"][: min(tasks, 2)]
    )
    return figure


def curves(
    curve_of_label: Curves,
    x_label: str,
    y_label: str,
    width: float = PAGE_WIDTH,
    has_markers: bool = False,
    has_zero_line: bool = False,
    half_width_of_label: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """A line for each label, with axes of these names.

    half_width_of_label: of the band about each line, in the units of y; no band where it is missing
    or 0.
    """
    has_legend = len(curve_of_label) > 1
    figure, ((axis,),) = new_figure(
        width, 0.55 * width, left_margin_letters=None if has_legend else 7.5
    )
    for place, (label, (x, y)) in enumerate(curve_of_label.items()):
        marker = MARKERS[place % len(MARKERS)] if has_markers else None
        if not len(x):  # its colour stays free, so that a label has one colour in all figures
            continue
        colour = COLOURS[place % len(COLOURS)]
        axis.plot(x, y, label=label, marker=marker, color=colour)
        half_width = (half_width_of_label or {}).get(label, np.zeros(0))
        if half_width.any():
            axis.fill_between(x, y - half_width, y + half_width, color=colour, alpha=0.15, lw=0)
    if has_zero_line:
        axis.axhline(0, color="#808080", linewidth=0.8, linestyle="--")
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.locator_params(nbins=MOST_TICKS)
    axis.locator_params("x", integer=True)
    if has_legend:
        figure.legend(loc="outside upper left", ncols=legend_columns([*curve_of_label], width))
    return figure


def bars(value_of_label: Mapping[str, float], x_label: str, width: float = PAGE_WIDTH) -> Figure:
    """A bar for each label with its number, `not measured` where the value is NaN."""
    figure, ((axis,),) = new_figure(width, 0.8 + ROW_HEIGHT * len(value_of_label))
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(value_of_label))]
    axis.barh(
        range(len(value_of_label)),
        np.nan_to_num(list(value_of_label.values())),
        color=colours,
        height=0.6,
    )
    for place, value in enumerate(value_of_label.values()):
        is_number = not np.isnan(value)
        text = f" {value:.3g}" if is_number else " not measured"
        axis.text(value if is_number else 0, place, text, va="center")
    axis.grid(axis="y", visible=False)
    axis.set(xlabel=x_label, ylim=(len(value_of_label) - 0.4, -0.6))
    axis.set_xlim(0, max(1.0, 1.15 * max(np.nan_to_num(list(value_of_label.values())))))
    axis.set_yticks(range(len(value_of_label)), list(value_of_label))
    return figure


def cost_against_accuracy(
    costs_by_name_and_label: Mapping[str, Mapping[str, float]],
    accuracy_of_label: Mapping[str, float],
    width: float = PAGE_WIDTH,
) -> Figure:
    """A panel for each cost: a point for each label, and a line along those that no other beats.

    costs_by_name_and_label: by the name of the cost with its unit, and then by label;
    accuracy_of_label: fractions.
    """
    figure, axes = new_figure(width, 0.62 * width, 1, len(costs_by_name_and_label))
    labels = list(accuracy_of_label)
    for axis, (name, of_label) in zip(axes[0], costs_by_name_and_label.items(), strict=True):
        x, y = (
            [of_label[label] for label in labels],
            [100 * accuracy_of_label[label] for label in labels],
        )
        for place, label in enumerate(labels):
            style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)]}
            style |= {"marker": MARKERS[place % len(MARKERS)], "linestyle": "none"}
            axis.plot(x[place], y[place], label=label, zorder=3, **style)
        places = pareto_front(x, y)
        axis.plot(
            [x[p] for p in places],
            [y[p] for p in places],
            color="#808080",
            linestyle="--",
            linewidth=0.8,
            drawstyle="steps-post",
        )
        axis.set(xlabel=name, ylabel="ACC (%)" if axis is axes[0, 0] else "")
        axis.margins(0.12)
        axis.set_xlim(left=0)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=legend_columns(labels, width))
    return figure
