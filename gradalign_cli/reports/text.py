"""The texts of a report's table, the same in every form."""

from collections.abc import Sequence
from typing import Any

from gradalign_cli.errors import counted
from gradalign_cli.reports.rows import (
    LOWER_IS_BETTER,
    MAIN_METRICS,
    Row,
    too_few_seeds_for_the_test,
)
from gradalign_cli.results.significance import least_exact_p_value

TITLE = "mean ± half a 95% t-interval over seeds, in percent"


def percent(fraction: float, with_sign: bool = False) -> str:
    """A fraction in percent."""
    return f"{100 * fraction:{'+' if with_sign else ''}.2f}"


def mean_text(summary: dict[str, Any] | None, plus_minus: str = "±") -> str:
    """The mean in percent and half the width of its interval, a dash where there is none."""
    if summary is None:
        return "-"
    mean, high = summary["mean"], summary["ci95_high"]
    return percent(mean) + ("" if high is None else f" {plus_minus} {percent(high - mean)}")


def difference_text(row: Row, plus_minus: str = "±") -> str:
    """The difference in points and half the width of its interval, a dash where there is none."""
    if row.difference is None:
        return "-"
    mean, high = row.difference.mean, row.difference.high
    return percent(mean, with_sign=True) + (
        "" if high is None else f" {plus_minus} {percent(high - mean)}"
    )


def shown_metrics(rows: Sequence[Row], sort_metric: str) -> list[str]:
    """The metrics of the table: the one that rows are sorted by, and the main ones."""
    names = dict.fromkeys((sort_metric, *MAIN_METRICS))
    return [name for name in names if any(name in row.summaries for row in rows)]


def column_names(rows: Sequence[Row], sort_metric: str) -> list[str]:
    """The names of the columns."""
    compared = [f"{sort_metric} - baseline", "p", "verdict"] * any(row.verdict for row in rows)
    return ["setting", "n", *shown_metrics(rows, sort_metric), *compared]


def cell_texts(
    row: Row, all_rows: Sequence[Row], sort_metric: str, plus_minus: str = "±"
) -> list[str]:
    """A row as texts, in the order of the columns."""
    metrics = [
        mean_text(row.summaries.get(name), plus_minus)
        for name in shown_metrics(all_rows, sort_metric)
    ]
    seed_count = row.summaries[sort_metric]["n"] if sort_metric in row.summaries else 0
    texts = [row.group.label, str(seed_count), *metrics]
    if any(other.verdict for other in all_rows):
        p_value = "-" if row.p_value is None else f"{row.p_value:.2g}"
        texts += [difference_text(row, plus_minus), p_value, row.verdict]
    return texts


def notes(rows: Sequence[Row], sort_metric: str) -> list[str]:
    """Sentences below the table: how to read it."""
    order = "lowest" if sort_metric.startswith(LOWER_IS_BETTER) else "highest"
    sentences = [
        f"sorted by {sort_metric}, the {order} first; n is the number of seeds that have it"
    ]
    if any("forgetting" in row.summaries for row in rows):
        sentences.append(
            "forgetting is the mean over all tasks but the last of the best earlier accuracy minus "
            "that at the end"
        )
    if any(summary["n"] == 1 for row in rows for summary in row.summaries.values()):
        sentences.append("a number of one seed has no interval")
    differences = [row.difference for row in rows if row.difference is not None]
    tested = [d for d in differences if d.p_value is not None]
    if differences:
        sentences.append(
            "differences are paired by seed; p is of a sign-permutation test, corrected by Holm "
            "over the rows"
        )
    if any(too_few_seeds_for_the_test(d.n, len(tested)) for d in tested):
        sentences.append(note_on_few_seeds([d.n for d in tested]))
    return sentences


def note_on_few_seeds(seed_counts: Sequence[int]) -> str:
    """The sentence on rows with so few seeds that no p-value can be significant. Where all have as
    many, it names the least corrected one."""
    n, rows = min(seed_counts), len(seed_counts)
    least, subject = least_exact_p_value(n), f"over {counted(n, 'seed')}"
    if max(seed_counts) == n:
        least, subject = min(1.0, rows * least), f"{subject} and {counted(rows, 'row')}"
    return (
        f"{subject} p cannot fall below {least:.2g}: higher and lower ask for differences of one "
        "sign whose interval leaves out 0"
    )
