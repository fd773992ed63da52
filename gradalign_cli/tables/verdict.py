"""Published beside ours: differences, verdicts, and paired comparisons of methods."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradalign_cli.results.metrics import summary
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import JUDGED, Cell, setting

Array = np.ndarray


class Row(NamedTuple):
    """One published number beside ours, in fractions; ours is None where nothing was run, explained
    is empty where ours is not above or below."""

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


def rows(cell: Cell, result: Result | None, quick: bool) -> list[Row]:
    """A row for each number the paper prints in the cell."""
    seeds = [] if result is None else list(result.seeds.values())
    made = []
    for metric, published in cell.published.items():
        there = [{metric: own[metric]} for own in seeds if metric in own]
        ours = summary(there)[metric] if there else {}
        mean = ours.get("mean")
        difference = None if mean is None else mean - published
        judged = verdict(cell, metric, difference, quick)
        made.append(
            Row(
                cell.name,
                metric,
                published,
                cell.status,
                mean,
                ours.get("ci95_low"),
                ours.get("ci95_high"),
                int(ours.get("n") or 0),
                difference,
                judged,
                None if result is None or mean is None else result.seconds,
                cell.explained if judged in ("above", "below") else "",
            )
        )
    return made


def verdict(cell: Cell, metric: str, difference: float | None, quick: bool) -> str:
    """`within`, `above` or `below` the tolerance, or why it is not judged."""
    if cell.needs is not None:
        return f"not judged: needs {cell.needs}"
    if difference is None:
        return "not judged: not run"
    if quick:
        return "not judged: a quick run"
    if cell.status not in JUDGED:
        return "not judged: published number from memory"
    if abs(difference) <= cell.tolerance[metric]:
        return "within"
    return "above" if difference > 0 else "below"


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for being many (Holm 1979), in the order given."""
    order = np.argsort(p)
    corrected, largest = np.empty(len(p)), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[number]))
        corrected[number] = largest
    return [float(value) for value in corrected]


class Comparison(NamedTuple):
    """Mean difference of two cells over the seeds they share, and Holm's p of a paired t-test."""

    first: str
    second: str
    seeds: int
    difference: float
    p: float


def comparisons(named: dict[str, Result], metric: str) -> list[Comparison]:
    """All pairs of cells of one setting that share at least three seeds, compared on a metric.

    Cells of one setting meet the same streams at one seed, so differences are paired.
    """
    from scipy.stats import ttest_rel

    found, raw = [], []
    labels = list(named)
    for i, first in enumerate(labels):
        for second in labels[i + 1 :]:
            if setting(first)[0] != setting(second)[0]:
                continue
            a, b = named[first].seeds, named[second].seeds
            shared = [s for s in a if s in b and metric in a[s] and metric in b[s]]
            if len(shared) < 3:
                continue
            x, y = (np.array([of[s][metric] for s in shared]) for of in (a, b))
            if np.ptp(x - y) == 0:
                continue  # no spread, no test
            raw.append(float(ttest_rel(x, y).pvalue))
            found.append((first, second, len(shared), float((x - y).mean())))
    return [Comparison(*parts, p) for parts, p in zip(found, holm(raw), strict=True)]
