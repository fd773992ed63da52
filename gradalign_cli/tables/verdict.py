"""Published numbers beside ours: differences, verdicts, and paired comparisons of methods."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from gradalign_cli.results.metrics import summary
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import JUDGED_STATUSES, Cell, setting_and_method

MIN_PAIRS = 3  # seeds that two cells must share to be compared


class TableRow(NamedTuple):
    """One published number beside ours, as fractions.

    cell:       the name of the cell.
    metric:     the name of the metric.
    published:  the published value.
    status:     where it comes from, see `Cell.status`.
    mean:       our mean over seeds, None where no run has the metric.
    low, high:  the 95% t-interval of our mean, None with fewer than two seeds.
    n:          the number of seeds.
    difference: ours minus published, None where there is no mean.
    verdict:    see `verdict`.
    seconds:    training and tests of all seeds, None where there is no mean.
    explained:  why ours is above or below the tolerance, where that is known; empty otherwise.
    """

    cell: str
    metric: str
    published: float
    status: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    difference: float | None
    verdict: str
    seconds: float | None
    explained: str


def table_rows(cell: Cell, result: Result | None, quick: bool) -> list[TableRow]:
    """A row for each published number of a cell. The result is None where no run is finished.

    quick: whether the runs were small ones, which are not judged.
    """
    return [table_row(cell, metric, result, quick) for metric in cell.published]


def table_row(cell: Cell, metric: str, result: Result | None, quick: bool) -> TableRow:
    """The row of one metric of a cell, see `table_rows`."""
    seeds = [] if result is None else result.seeds.values()
    values = [{metric: metrics[metric]} for metrics in seeds if metric in metrics]
    ours = summary(values)[metric] if values else {}
    mean = ours.get("mean")
    difference = None if mean is None else mean - cell.published[metric]
    cell_verdict = verdict(cell, metric, difference, quick)
    return TableRow(
        cell.name,
        metric,
        cell.published[metric],
        cell.published_status,
        mean,
        ours.get("ci95_low"),
        ours.get("ci95_high"),
        int(ours.get("n") or 0),
        difference,
        cell_verdict,
        None if result is None or mean is None else result.seconds,
        cell.known_deviation if cell_verdict in ("above", "below") else "",
    )


def verdict(cell: Cell, metric: str, difference: float | None, quick: bool) -> str:
    """`within`, `above` or `below` the tolerance, or `not judged` and why."""
    if cell.missing_requirement is not None:
        return f"not judged: needs {cell.missing_requirement}"
    if difference is None:
        return "not judged: not run"
    if quick:
        return "not judged: a quick run"
    if cell.published_status not in JUDGED_STATUSES:
        return "not judged: published number from memory"
    if abs(difference) <= cell.tolerance[metric]:
        return "within"
    return "above" if difference > 0 else "below"


def holm_corrected(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for their number by Holm (1979), in the same
    order."""
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return [float(p) for p in corrected]


class Comparison(NamedTuple):
    """Two cells compared over the seeds that both have.

    first, second: the names of the cells.
    seeds:         the number of seeds that both have.
    difference:    the mean over these seeds of the first minus the second, as a fraction.
    p:             the p-value of a paired t-test, corrected by Holm.
    """

    first: str
    second: str
    seeds: int
    difference: float
    p: float


def paired_comparisons(results: dict[str, Result], metric: str) -> list[Comparison]:
    """All pairs of cells of one setting that share at least three seeds, compared on a metric.

    results: by the name of the cell. In one setting, runs with the same seed train on the same
    stream, so their values are paired. Pairs whose differences are all equal are left out: they
    have no spread to test.
    """
    from scipy.stats import ttest_rel

    pairs, p_values = [], []
    for first, second in combinations(results, 2):
        if setting_and_method(first)[0] != setting_and_method(second)[0]:
            continue
        first_seeds, second_seeds = results[first].seeds, results[second].seeds
        shared = [
            seed
            for seed in first_seeds
            if seed in second_seeds and metric in first_seeds[seed] and metric in second_seeds[seed]
        ]
        if len(shared) < MIN_PAIRS:
            continue
        x, y = (
            np.array([seeds[seed][metric] for seed in shared])
            for seeds in (first_seeds, second_seeds)
        )
        if np.ptp(x - y) == 0:
            continue
        p_values.append(float(ttest_rel(x, y).pvalue))
        pairs.append((first, second, len(shared), float((x - y).mean())))
    return [Comparison(*pair, p) for pair, p in zip(pairs, holm_corrected(p_values), strict=True)]
