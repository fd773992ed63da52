"""Average ranks of the methods of a table over its settings (Demsar 2006), and their picture.

Friedman's test and Nemenyi's take the settings as independent, which several memory sizes of one
benchmark are only in part; the sentence names what was counted.
"""

import math
from itertools import combinations
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import Table, setting

LEVEL = 0.05
FEWEST = 5  # settings that ranks are averaged over
LEFT, STEP, LINE = 150, 90, 22  # pixels: of the margin, of a rank, of a line of text


class Ranks(NamedTuple):
    """mean: of each method, best first, 1 for the best in every setting;  settings: over which;
    p: of Friedman's test that all are equal;  critical: Nemenyi's difference at 5 %."""

    mean: dict[str, float]
    settings: tuple[str, ...]
    p: float
    critical: float


def scores(results: dict[str, Result], metric: str) -> dict[str, dict[str, float]]:
    """Our mean of a metric by setting and method."""
    found: dict[str, dict[str, float]] = {}
    for cell, result in results.items():
        where, method = setting(cell)
        values = [seed[metric] for seed in result.seeds.values() if metric in seed]
        if values:
            found.setdefault(where, {})[method] = sum(values) / len(values)
    return found


def ranks(table: Table, results: dict[str, Result], metric: str) -> Ranks | None:
    """Ranks over the settings with three methods or more, of the methods that all of them have;
    None where these are fewer than three, the settings fewer than five, or the table has none."""
    from scipy.stats import friedmanchisquare, rankdata

    if not table.ranked:
        return None
    by_setting = {s: row for s, row in scores(results, metric).items() if len(row) >= 3}
    if len(by_setting) < FEWEST:
        return None
    rows = list(by_setting.values())
    methods = [method for method in rows[0] if all(method in row for row in rows)]
    if len(methods) < 3:
        return None
    values = np.array([[row[method] for method in methods] for row in rows])
    mean = rankdata(-values, axis=1).mean(0)
    tied = (values == values[:, :1]).all()  # the statistic would be 0 / 0
    order = np.argsort(mean, kind="stable")
    return Ranks(
        {methods[i]: float(mean[i]) for i in order},
        tuple(by_setting),
        1.0 if tied else float(friedmanchisquare(*values.T).pvalue),
        critical_difference(len(methods), len(rows)),
    )


def critical_difference(methods: int, settings: int) -> float:
    """Nemenyi's: average ranks that differ by as much differ at 5 % (Demsar 2006, sec. 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - LEVEL, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * settings))


def groups(found: Ranks) -> list[tuple[float, float]]:
    """The widest spans of ranks of two methods or more that do not differ; where Friedman's test
    finds no difference at all, pairs are not looked at and the span is over all."""
    values = list(found.mean.values())
    if found.p >= LEVEL:
        return [(values[0], values[-1])]
    near = [(a, b) for a, b in combinations(values, 2) if b - a < found.critical]
    return [
        span
        for span in dict.fromkeys(near)
        if not any(o != span and o[0] <= span[0] and span[1] <= o[1] for o in near)
    ]


def sentence(found: Ranks) -> str:
    """The ranks in words."""
    named = ", ".join(f"{method} {rank:.2f}" for method, rank in found.mean.items())
    over = (
        f"Average ranks over {len(found.settings)} settings ({', '.join(found.settings)}): {named}."
    )
    if found.p >= LEVEL:
        return f"{over} They do not differ at 5 % (Friedman's p {found.p:.2g})."
    return (
        f"{over} Ranks less than {found.critical:.2f} apart do not differ at 5 % (Nemenyi; "
        f"Friedman's p {found.p:.2g})."
    )


def picture(found: Ranks) -> str:
    """The critical-difference diagram as an SVG: the best on the left, bars over what does not
    differ."""
    count = len(found.mean)
    spans = groups(found)

    def at(rank: float) -> float:
        return LEFT + STEP * (rank - 1)

    axis = 60 + 10 * len(spans)
    width, height = 2 * LEFT + STEP * (count - 1), axis + LINE * (count + 1)
    lines = [(at(1), 30, at(1 + found.critical), 30, 2), (at(1), axis, at(count), axis, 1)]
    texts = [(at(1), 22, "start", f"critical difference {found.critical:.2f}")]
    for tick in range(1, count + 1):
        lines.append((at(tick), axis - 5, at(tick), axis, 1))
        texts.append((at(tick), axis - 8, "middle", str(tick)))
    for number, (low, high) in enumerate(spans):
        over = 40 + 10 * number
        lines.append((at(low) - 3, over, at(high) + 3, over, 4))
    for number, (method, rank) in enumerate(found.mean.items()):
        left = number < (count + 1) // 2
        y = axis + LINE * (number + 1 if left else count - number)
        edge = LEFT - 10 if left else width - LEFT + 10
        lines += [(at(rank), axis, at(rank), y, 1), (at(rank), y, edge, y, 1)]
        shown = f"{method} {rank:.2f}"
        texts.append((edge - 4 if left else edge + 4, y + 4, "end" if left else "start", shown))
    drawn = [
        f'<line x1="{a:g}" y1="{b:g}" x2="{c:g}" y2="{d:g}" stroke="#000" stroke-width="{w}"/>'
        for a, b, c, d, w in lines
    ]
    drawn += [
        f'<text x="{x:g}" y="{y:g}" text-anchor="{a}">{escape(t)}</text>' for x, y, a, t in texts
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    head += 'font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *drawn, "</svg>", ""])
