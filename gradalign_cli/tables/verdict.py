"""Published numbers beside ours: differences, verdicts, and paired comparisons of methods."""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from gradalign_cli.results.metrics import summary
from gradalign_cli.results.significance import holm_corrected, t_quantile
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import JUDGED_STATUSES, Cell, setting_and_method

OUTSIDE = ("above", "below", "too few seeds")  # verdicts of a difference beyond the tolerance
ROUNDING = 1e-12  # of differences between accuracies that are equal in decimals
MIN_PAIRS = 3  # seeds that two cells must share to be compared


class TableRow(NamedTuple):
    """One number of the paper beside ours, as fractions.

    cell:           the name of the cell.
    metric:         the name of the metric.
    published:      the published value, None where the paper prints none.
    published_half: half the width of the 95% t-interval of the published value, None where its
                    spread is not known.
    status:         where the published value comes from, see `Cell.status`.
    mean:           our mean over seeds, None where no run has the metric.
    low, high:      the 95% t-interval of our mean, None with fewer than two seeds.
    n:              the number of seeds.
    difference:     ours minus published, None where one of them is missing.
    verdict:        see `verdict`.
    seconds:        training and tests of all seeds, None where there is no mean.
    minutes_per_seed: that the cell's run takes for each seed, see `Cell.minutes_per_seed`.
    explained:      why ours is outside the tolerance, where that is known; empty otherwise.
    """

    cell: str
    metric: str
    published: float | None
    published_half: float | None
    status: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    difference: float | None
    verdict: str
    seconds: float | None
    minutes_per_seed: float | None
    explained: str


def table_rows(cell: Cell, result: Result | None, quick: bool) -> list[TableRow]:
    """A row for each published number of a cell, and for each metric that is shown beside them.
    The result is None where no run is finished.

    quick: whether the runs were small ones, which are not judged.
    """
    metrics = (*cell.published, *cell.unpublished_metrics)
    return [table_row(cell, metric, result, quick) for metric in metrics]


def table_row(cell: Cell, metric: str, result: Result | None, quick: bool) -> TableRow:
    """The row of one metric of a cell, see `table_rows`."""
    seeds = [] if result is None else result.seeds.values()
    values = [{metric: metrics[metric]} for metrics in seeds if metric in metrics]
    ours = summary(values)[metric] if values else {}
    mean, seed_count = ours.get("mean"), int(ours.get("n") or 0)
    published, published_std = cell.published.get(metric), cell.published_std.get(metric)
    published_half = difference_half_width(None, 0, published_std, cell.published_runs)
    difference = None if mean is None or published is None else mean - published
    noise = difference_half_width(ours.get("std"), seed_count, published_std, cell.published_runs)
    cell_verdict = verdict(cell, metric, mean, difference, noise, seed_count, quick)
    return TableRow(
        cell.name,
        metric,
        published,
        published_half,
        cell.published_status,
        mean,
        ours.get("ci95_low"),
        ours.get("ci95_high"),
        seed_count,
        difference,
        cell_verdict,
        None if result is None or mean is None else result.seconds,
        cell.minutes_per_seed,
        cell.known_deviation if cell_verdict in OUTSIDE else "",
    )


def difference_half_width(
    our_std: float | None, seed_count: int, published_std: float | None, published_runs: int | None
) -> float | None:
    """Half the width of the 95% interval of our mean minus the published one, None where neither
    spread is known.

    our_std, seed_count: the standard deviation of our seeds, None with fewer than two, and their
    number. The interval is Welch's (1947) where both spreads are known. Where the paper's is not,
    the published mean counts as exact. One seed is taken to be one more run like the paper's, and
    with no seed the interval is that of the published mean.
    """
    variances: list[float] = []  # of each mean
    freedoms: list[int] = []  # of the estimate of each variance
    if our_std is not None:
        variances, freedoms = [our_std**2 / seed_count], [seed_count - 1]
    if published_std is not None and published_runs is not None:
        shares = 1 / published_runs + (1 if seed_count == 1 else 0)
        variances.append(published_std**2 * shares)
        freedoms.append(published_runs - 1)
    if not variances:
        return None
    variance = sum(variances)
    if variance == 0:
        return 0.0
    inverse = sum((v / variance) ** 2 / f for v, f in zip(variances, freedoms, strict=True))
    return t_quantile(1 / inverse) * math.sqrt(variance)


def verdict(
    cell: Cell,
    metric: str,
    mean: float | None,
    difference: float | None,
    half_width_of_difference: float | None,
    seed_count: int,
    quick: bool,
) -> str:
    """`within`, `above` or `below` the tolerance, `too few seeds`, or `not judged` and why.

    A difference up to the tolerance is within. A larger one is above or below, unless the seeds,
    ours and the paper's, are too few to tell it from 0: unless it lies within half the
    width of its 95% interval, see `difference_half_width`. One seed is too few where the paper
    tells no spread. So noise makes no number within; with more seeds it may become so, or not.
    """
    if cell.missing_requirement is not None:
        return f"not judged: needs {cell.missing_requirement}"
    if mean is None:
        return "not judged: not run"
    if quick:
        return "not judged: a quick run"
    if difference is None:
        return "not judged: not printed"
    if cell.published_status not in JUDGED_STATUSES:
        return "not judged: published number from memory"
    if abs(difference) <= cell.tolerance[metric] + ROUNDING:
        return "within"
    if half_width_of_difference is None:
        could_be_chance = seed_count == 1
    else:
        could_be_chance = abs(difference) <= half_width_of_difference
    if could_be_chance:
        return "too few seeds"
    return "above" if difference > 0 else "below"


class PairedComparison(NamedTuple):
    """Two cells compared over the seeds that both have.

    first_cell, second_cell: their names.
    seeds:         the number of seeds that both have.
    difference:    the mean over these seeds of the first minus the second, as a fraction.
    p_value:       of a paired t-test, corrected by Holm.
    """

    first_cell: str
    second_cell: str
    seeds: int
    difference: float
    p_value: float


def paired_comparisons(result_of_cell: dict[str, Result], metric: str) -> list[PairedComparison]:
    """All pairs of cells of one setting that share at least three seeds, compared on a metric.

    result_of_cell: by the name of the cell. In one setting, runs with the same seed train on the
    same stream, so their values are paired. Pairs whose differences are all equal are left out:
    they have no spread to test.
    """
    from scipy.stats import ttest_rel

    pairs, p_values = [], []
    for first, second in combinations(result_of_cell, 2):
        if setting_and_method(first)[0] != setting_and_method(second)[0]:
            continue
        first_seeds, second_seeds = result_of_cell[first].seeds, result_of_cell[second].seeds
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
        if np.ptp(x - y) <= ROUNDING:
            continue
        p_values.append(float(ttest_rel(x, y).pvalue))
        pairs.append((first, second, len(shared), float((x - y).mean())))
    return [
        PairedComparison(*pair, p) for pair, p in zip(pairs, holm_corrected(p_values), strict=True)
    ]
