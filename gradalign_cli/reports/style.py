"""How figures look: column width, colours that colour-blind readers tell apart, text as text."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FOREGROUND, GRID = "#010203", "#c0c1c2"  # a page puts its own colours in their place
# Okabe and Ito's palette, without its yellow, which is pale on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a8a8a", "#9467bd")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 6.0  # inches

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "text.color": FOREGROUND,
    "axes.labelcolor": FOREGROUND,
    "axes.edgecolor": FOREGROUND,
    "xtick.color": FOREGROUND,
    "ytick.color": FOREGROUND,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.parse_math": False,  # labels may come from strangers
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "figure.dpi": 100,
}


@contextmanager
def figure_style(width: float = PAGE_WIDTH, svg_salt: str = "gradalign") -> Iterator[None]:
    """Figures that are made and saved in the block have this style.

    width: in inches; letters are smaller in a column than on a page.  svg_salt: of the names in an
    SVG, so that equal figures are equal files.
    """
    import matplotlib as mpl

    narrow: dict[Any, Any] = {
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "legend.fontsize": 6,
    }
    narrow |= {"lines.linewidth": 1.0, "lines.markersize": 3}
    with (
        warnings.catch_warnings(),
        mpl.rc_context(STYLE | {"svg.hashsalt": svg_salt} | (narrow if width < PAGE_WIDTH else {})),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a browser has more fonts
        yield
