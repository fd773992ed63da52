"""A report over run folders, from reading to rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gradalign_cli.errors import UserError, counted
from gradalign_cli.reports.comparability import comparability_warnings
from gradalign_cli.reports.group import Group, baseline_group, group_replicas, select_groups
from gradalign_cli.reports.rows import Row, report_rows
from gradalign_cli.reports.run import Reading, read_runs


class Report(NamedTuple):
    """Rows, the metric that they are sorted by, the label of the baseline, and warnings."""

    rows: list[Row]
    sort_metric: str
    baseline_label: str | None
    warnings: list[str]


def make_report(
    folders: Iterable[Path],
    sort_metric: str = "ACC",
    baseline: str | None = None,
    conditions: Sequence[str] = (),
) -> Report:
    """The report over the runs in these folders and below them.

    sort_metric: the metric to sort by and to compare;  baseline: a row's label or `NAME=VALUE`;
    conditions: each `NAME=VALUE`. Raises UserError where they do not fit the runs.
    """
    reading = read_runs(folders)
    if not reading.runs:
        raise UserError(no_run_sentence(reading))
    groups = group_replicas(reading.runs)
    if conditions:
        runs = {r.folder: r for g in select_groups(groups, conditions, "--where") for r in g.runs()}
        groups = select_groups(group_replicas(runs.values()), conditions, "--where")
    base = None if baseline is None else baseline_group(groups, baseline)
    return report_of_groups(groups, sort_metric, base, reading)


def report_of_groups(
    groups: Sequence[Group], sort_metric: str, baseline: Group | None, reading: Reading
) -> Report:
    """The report over these groups."""
    rows = report_rows(groups, sort_metric, baseline)
    warnings = comparability_warnings(groups, reading)
    return Report(rows, sort_metric, baseline and baseline.label, warnings)


def no_run_sentence(reading: Reading) -> str:
    """Why there is nothing to report."""
    sentence = "`DIR` must hold a finished run, found none"
    if reading.refusal_sentences:
        return f"{sentence}: {reading.refusal_sentences[0]}"
    count = len(reading.unfinished_folders)
    return sentence + (f", and {counted(count, 'unfinished run')}" if count else "")
