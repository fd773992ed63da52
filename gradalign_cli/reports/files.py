"""The figures of a report as files for a paper: PDF, SVG and PNG at column width."""

import io
from collections.abc import Sequence
from pathlib import Path

from gradalign_cli.files.writing import make_folder, replacement
from gradalign_cli.reports.plot import Plot
from gradalign_cli.reports.style import COLUMN_WIDTH, figure_style

FORMS = ("pdf", "svg", "png")
DOTS_PER_INCH = 300


def write_figures(plots: Sequence[Plot], folder: Path) -> None:
    """Write each figure as NAME.pdf, NAME.svg and NAME.png; equal figures give equal bytes."""
    make_folder(folder)
    for plot in plots:
        with figure_style(COLUMN_WIDTH, plot.name):
            figure = plot.draw(COLUMN_WIDTH)
            for form in FORMS:
                content = io.BytesIO()
                date = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
                figure.savefig(content, format=form, dpi=DOTS_PER_INCH, metadata=date)
                with replacement(folder / f"{plot.name}.{form}") as file:
                    file.write(content.getvalue())
