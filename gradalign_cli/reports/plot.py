"""A figure of a report with its title, its numbers and a sentence to read it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.group import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES, MOST_PANELS, MOST_DOTS = 8, 6, 30  # rows that a figure shows, the best ones
LONGEST_LABEL = 40  # letters
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
