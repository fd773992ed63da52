"""Average ranks of a table's methods over its settings, and their diagram (Demsar 2006).

The tests of Friedman and Nemenyi take the settings as independent. Several memory sizes of one
benchmark are so only in part; therefore the sentence under a table names the settings.
"""

import math
from itertools import combinations
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import Table, setting_and_method

SIGNIFICANCE_LEVEL = 0.05
MIN_SETTINGS, MIN_METHODS = 5, 3
MARGIN, RANK_WIDTH, LINE_HEIGHT = 150, 90, 22  # of the diagram, in pixels

Line = tuple[float, float, float, float, int]  # x and y of its start, x and y of its end, width
Text = tuple[float, float, str, str]  # x, y, text-anchor, text


class Ranks(NamedTuple):
    """The ranks of methods over the settings of a table.

    mean_ranks: the average rank of each method, best first; 1 for the best in every setting.
    settings: the names of the settings.
    p_value: of Friedman's test that all methods are equal.
    critical_difference: Nemenyi's critical difference of average ranks at 5 %.
    """

    mean_ranks: dict[str, float]
    settings: tuple[str, ...]
    p_value: float
    critical_difference: float


def setting_means(result_of_cell: dict[str, Result], metric: str) -> dict[str, dict[str, float]]:
    """For each setting the mean of a metric over the seeds of each method.

    result_of_cell: by the name of the cell.
    """
    means: dict[str, dict[str, float]] = {}
    for cell_name, result in result_of_cell.items():
        setting, method = setting_and_method(cell_name)
        values = [metrics[metric] for metrics in result.seeds.values() if metric in metrics]
        if values:
            means.setdefault(setting, {})[method] = sum(values) / len(values)
    return means


def method_ranks(table: Table, result_of_cell: dict[str, Result], metric: str) -> Ranks | None:
    """The average ranks of a table's methods by a metric, or None where they are not ranked.

    result_of_cell: by the name of the cell. The settings are those with at least three methods, the
    methods those that all of these settings have. None where the table is not ranked, or with fewer
    than five settings or three methods.
    """
    from scipy.stats import friedmanchisquare, rankdata

    if not table.ranks_methods:
        return None
    means = {
        setting: row
        for setting, row in setting_means(result_of_cell, metric).items()
        if len(row) >= MIN_METHODS
    }
    if len(means) < MIN_SETTINGS:
        return None
    rows = list(means.values())
    methods = [method for method in rows[0] if all(method in row for row in rows)]
    if len(methods) < MIN_METHODS:
        return None
    values = np.array([[row[method] for method in methods] for row in rows])
    mean_ranks = rankdata(-values, axis=1).mean(0)
    all_tied = (values == values[:, :1]).all()  # Friedman's statistic would be 0 / 0
    order = np.argsort(mean_ranks, kind="stable")
    return Ranks(
        {methods[index]: float(mean_ranks[index]) for index in order},
        tuple(means),
        1.0 if all_tied else float(friedmanchisquare(*values.T).pvalue),
        critical_difference(len(methods), len(rows)),
    )


def critical_difference(method_count: int, setting_count: int) -> float:
    """Nemenyi's critical difference: average ranks at least this far apart differ at 5 % (Demsar
    2006, sec. 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - SIGNIFICANCE_LEVEL, method_count, math.inf)) / math.sqrt(2)
    return q * math.sqrt(method_count * (method_count + 1) / (6 * setting_count))


def indistinct_spans(ranks: Ranks) -> list[tuple[float, float]]:
    """The spans (best rank, worst rank) of at least two methods that do not differ, without those
    that lie within another span.

    Where Friedman's test finds no difference, pairs are not tested and one span covers all methods.
    """
    means = list(ranks.mean_ranks.values())
    if ranks.p_value >= SIGNIFICANCE_LEVEL:
        return [(means[0], means[-1])]
    spans = dict.fromkeys(
        (best, worst)
        for best, worst in combinations(means, 2)
        if worst - best < ranks.critical_difference
    )
    return [
        (best, worst)
        for best, worst in spans
        if not any(
            (low, high) != (best, worst) and low <= best and worst <= high for low, high in spans
        )
    ]


def ranks_sentence(ranks: Ranks) -> str:
    """The ranks in words."""
    means = ", ".join(f"{method} {rank:.2f}" for method, rank in ranks.mean_ranks.items())
    sentence = (
        f"Average ranks over {len(ranks.settings)} settings ({', '.join(ranks.settings)}): {means}."
    )
    if ranks.p_value >= SIGNIFICANCE_LEVEL:
        return f"{sentence} They do not differ at 5 % (Friedman's p {ranks.p_value:.2g})."
    return (
        f"{sentence} Ranks less than {ranks.critical_difference:.2f} apart do not differ at 5 % "
        f"(Nemenyi; Friedman's p {ranks.p_value:.2g})."
    )


def ranks_diagram(ranks: Ranks) -> str:
    """The critical-difference diagram (Demsar 2006, fig. 1) as an SVG: the best method is on the
    left, and bars connect methods that do not differ."""
    count, spans = len(ranks.mean_ranks), indistinct_spans(ranks)
    axis_y = 60 + 10 * len(spans)
    width, height = 2 * MARGIN + RANK_WIDTH * (count - 1), axis_y + LINE_HEIGHT * (count + 1)
    lines, texts = axis_lines_and_texts(ranks, axis_y)
    for number, (best, worst) in enumerate(spans):
        bar_y = 40 + 10 * number
        lines.append((rank_x(best) - 3, bar_y, rank_x(worst) + 3, bar_y, 4))
    for number, (method, rank) in enumerate(ranks.mean_ranks.items()):
        on_left = number < (count + 1) // 2
        y = axis_y + LINE_HEIGHT * (number + 1 if on_left else count - number)
        label_x = MARGIN - 10 if on_left else width - MARGIN + 10
        lines += [(rank_x(rank), axis_y, rank_x(rank), y, 1), (rank_x(rank), y, label_x, y, 1)]
        text_x, anchor = (label_x - 4, "end") if on_left else (label_x + 4, "start")
        texts.append((text_x, y + 4, anchor, f"{method} {rank:.2f}"))
    return svg(width, height, lines, texts)


def rank_x(rank: float) -> float:
    """Where a rank lies on the axis, in pixels from the left."""
    return MARGIN + RANK_WIDTH * (rank - 1)


def axis_lines_and_texts(ranks: Ranks, axis_y: float) -> tuple[list[Line], list[Text]]:
    """The lines and texts of the axis of ranks and of the critical difference above it."""
    count = len(ranks.mean_ranks)
    lines: list[Line] = [
        (rank_x(1), 30, rank_x(1 + ranks.critical_difference), 30, 2),
        (rank_x(1), axis_y, rank_x(count), axis_y, 1),
    ]
    texts: list[Text] = [
        (rank_x(1), 22, "start", f"critical difference {ranks.critical_difference:.2f}"),
    ]
    for tick in range(1, count + 1):
        lines.append((rank_x(tick), axis_y - 5, rank_x(tick), axis_y, 1))
        texts.append((rank_x(tick), axis_y - 8, "middle", str(tick)))
    return lines, texts


def svg(width: float, height: float, lines: list[Line], texts: list[Text]) -> str:
    """An SVG of black lines and texts on white."""
    drawn = [
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#000" '
        f'stroke-width="{line_width}"/>'
        for x1, y1, x2, y2, line_width in lines
    ]
    drawn += [
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
        for x, y, anchor, text in texts
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    head += 'font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *drawn, "</svg>", ""])
