"""The rows of a report: mean and interval of each metric, and the difference to a baseline."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradalign_cli.errors import require_name
from gradalign_cli.reports.group import Group
from gradalign_cli.results.metrics import summary
from gradalign_cli.results.significance import (
    PairedDifference,
    holm_corrected,
    least_exact_p_value,
    paired_difference,
)

SIGNIFICANT = 0.05
LOWER_IS_BETTER = ("forgetting", "stability_gap")  # names of metrics begin so
MAIN_METRICS = ("ACC", "forgetting")


class Row(NamedTuple):
    """A group in the report.

    summaries:  of each metric mean, std, ci95_low, ci95_high and n, see `summary`.
    difference: of the metric that rows are sorted by, to the baseline on common seeds; None for the
                baseline itself, without one, and without common seeds.
    p_value:    of the sign-permutation test, corrected by Holm over the rows.
    verdict:    see `verdict`; `baseline` for the baseline itself, `no common seeds` where there is
                no difference to it, empty without a baseline.
    """

    group: Group
    summaries: dict[str, dict[str, Any]]
    difference: PairedDifference | None
    p_value: float | None
    verdict: str


def report_rows(groups: Sequence[Group], sort_metric: str, baseline: Group | None) -> list[Row]:
    """The rows, the best by `sort_metric` first; those without it come last. Raises UserError where
    no run has the metric."""
    names = list(dict.fromkeys(name for group in groups for name in group.metrics()))
    require_name(sort_metric, names, "--by", "a metric of the runs")
    differences = [difference_to_baseline(group, baseline, sort_metric) for group in groups]
    p_values = [d.p_value for d in differences if d is not None and d.p_value is not None]
    corrected = iter(holm_corrected(p_values))
    rows = []
    for group, difference in zip(groups, differences, strict=True):
        has_test = difference is not None and difference.p_value is not None
        p_value = next(corrected) if has_test else None
        word = "baseline" if group is baseline else "no common seeds" if baseline else ""
        if difference is not None:
            word = verdict(difference, p_value, len(p_values))
        rows.append(Row(group, group_summaries(group, names), difference, p_value, word))
    sign = 1 if sort_metric.startswith(LOWER_IS_BETTER) else -1
    return sorted(
        rows,
        key=lambda row: (
            sign * row.summaries[sort_metric]["mean"] if sort_metric in row.summaries else 2.0
        ),
    )


def group_summaries(group: Group, metric_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The summary over seeds of each metric that the group has."""
    values = {name: list(group.values(name).values()) for name in metric_names}
    return {
        name: summary([{name: value} for value in values[name]])[name]
        for name in metric_names
        if values[name]
    }


def difference_to_baseline(
    group: Group, baseline: Group | None, metric: str
) -> PairedDifference | None:
    """The group minus the baseline on the seeds that both have; None where there are none."""
    if baseline is None or group is baseline:
        return None
    values, baseline_values = group.values(metric), baseline.values(metric)
    shared = [seed for seed in values if seed in baseline_values]
    if not shared:
        return None
    return paired_difference([values[seed] - baseline_values[seed] for seed in shared])


def too_few_seeds_for_the_test(seed_count: int, tested_row_count: int) -> bool:
    """Whether even differences of one sign over so many seeds may not come down to 0.05, corrected
    for so many rows."""
    return least_exact_p_value(seed_count) * tested_row_count > SIGNIFICANT


def verdict(
    difference: PairedDifference, corrected_p_value: float | None, tested_row_count: int
) -> str:
    """`higher` or `lower` than the baseline, `not distinguishable` or `too few seeds`.

    Higher and lower ask that the 95% interval leaves out 0, and that the corrected p-value is at
    most 0.05 or, where there are too few seeds for that, that all differences have one sign. So a
    further row never makes them easier.
    """
    if difference.low is None or difference.high is None or corrected_p_value is None:
        return "too few seeds"
    covers_zero = difference.low <= 0 <= difference.high
    of_one_sign = difference.p_value == least_exact_p_value(difference.n)
    significant = corrected_p_value <= SIGNIFICANT or (
        of_one_sign and too_few_seeds_for_the_test(difference.n, tested_row_count)
    )
    if covers_zero or not significant:
        return "not distinguishable"
    return "higher" if difference.mean > 0 else "lower"
