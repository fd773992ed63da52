"""A figure as an SVG that stands in a page: in the page's colours, with names of its own."""

import io
import re
from html import escape

from gradalign_cli.reports.plot import Plot
from gradalign_cli.reports.style import FOREGROUND, GRID, PAGE_WIDTH, figure_style

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NAMES = re.compile(r'(\bid="|url\(#|href="#)')


def inline_svg(plot: Plot) -> str:
    """The SVG element of a figure, named by its title and described by its sentence."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    with figure_style(svg_salt=plot.name):
        # what `savefig` would draw, which draws it twice
        FigureCanvasSVG(plot.draw(PAGE_WIDTH)).print_svg(text, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = NAMES.sub(rf"\g<1>{plot.name}-", svg)
    svg = svg.replace(FOREGROUND, "currentColor").replace(GRID, "var(--line)")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    label = escape(f"{plot.title}. {plot.caption}")
    start = f'<svg role="img" aria-label="{label}" {box[0]} {NAMESPACES}>'
    return start + svg[svg.index(">") + 1 :]
