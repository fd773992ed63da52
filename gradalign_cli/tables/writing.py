"""A reproduced table in every form: terminal, Markdown, csv, LaTeX (booktabs), json."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as TerminalTable

from gradalign_cli.errors import counted, os_errors_as_sentences
from gradalign_cli.files.writing import make_folder, write_atomically
from gradalign_cli.results.latex import LATEX_ESCAPES
from gradalign_cli.tables.ranks import Ranks, ranks_diagram, ranks_sentence
from gradalign_cli.tables.table import JUDGED_STATUSES, Table
from gradalign_cli.tables.verdict import PairedComparison, TableRow

WRITTEN_FILES = ("table.md", "table.csv", "table.tex", "table.json", "ranks.svg")
COLUMNS = ("cell", "metric", "published", "ours", "n", "difference", "verdict", "time")
WITH_INTERVAL = ("published", "ours")  # these have a plus-minus sign in them


def percent(fraction: float | None, with_sign: bool = False) -> str:
    """A fraction in percent; a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:{'+' if with_sign else ''}.2f}"


def with_interval(mean: float | None, interval_half_width: float | None, plus_minus: str) -> str:
    """A mean in percent, and where it is known half the width of its interval after the sign
    `plus_minus`."""
    if mean is None or interval_half_width is None:
        return percent(mean)
    return f"{percent(mean)} {plus_minus} {percent(interval_half_width)}"


def row_texts(row: TableRow, plus_minus: str = "±") -> list[str]:
    """A row as texts, in the order of COLUMNS."""
    published = with_interval(row.published, row.published_half, plus_minus)
    published += " (unverified)" if row.status == "MEMORY" and row.published is not None else ""
    our_half = None if row.mean is None or row.high is None else row.high - row.mean
    ours = with_interval(row.mean, our_half, plus_minus)
    verdict = f"{row.verdict}: {row.explained}" if row.explained else row.verdict
    texts = [row.cell, row.metric, published, ours, str(row.n)]
    return [*texts, percent(row.difference, with_sign=True), verdict, time_text(row)]


def time_text(row: TableRow) -> str:
    """How long the cell took, or where it was not run, how long a seed of it takes."""
    if row.seconds is not None:
        return f"{row.seconds / 60:.1f} min"
    minutes = row.minutes_per_seed
    return "-" if minutes is None else f"{minutes:.1f} min a seed"


def score_text(rows: Sequence[TableRow]) -> str:
    """How many of the judged numbers are within their tolerance, for how many of the others the
    cause is known, and for how many of the rest seeds are too few to tell."""
    judged = [row for row in rows if not row.verdict.startswith("not judged")]
    within_count = sum(row.verdict == "within" for row in judged)
    explained_count = sum(bool(row.explained) for row in judged)
    undecided_count = sum(row.verdict == "too few seeds" and not row.explained for row in judged)
    reasons = [f"{explained_count} explained"] * bool(explained_count)
    reasons += [f"{undecided_count} with too few seeds to tell"] * bool(undecided_count)
    of_the_others = f" (of the others {', '.join(reasons)})" if reasons else ""
    published_count = sum(row.published is not None for row in rows)
    standing = f"{within_count} of {len(judged)} judged numbers within tolerance{of_the_others}"
    return f"{standing if judged else 'No number is judged'}, {published_count} published"


def terminal_table(table: Table, rows: Sequence[TableRow]) -> TerminalTable:
    """The table for the terminal."""
    grid = TerminalTable(title=f"{table.title}, in percent", title_justify="left")
    for column in COLUMNS:
        grid.add_column(column)
    for row in rows:
        grid.add_row(*row_texts(row))
    return grid


def markdown(
    table: Table,
    rows: Sequence[TableRow],
    comparisons: Sequence[PairedComparison],
    ranks: Ranks | None,
) -> str:
    """The table as Markdown, with its source, its tolerances, the known differences, the paired
    comparisons and the average ranks. Numbers that were not run are behind a fold."""
    lines = [f"# {table.title}", "", f"Published: {table.source}."]
    lines[-1] += " In percent, with 95% t-intervals over the paper's runs and our seeds."
    lines += ["", f"{score_text(rows)}.", "", *tolerance_lines(table)]
    run_rows, missing_rows = [row for row in rows if row.n], [row for row in rows if not row.n]
    if run_rows:
        lines += ["", *markdown_rows(run_rows)]
    if missing_rows:
        summary = f"<summary>numbers that were not run: {len(missing_rows)}</summary>"
        lines += ["", "<details>", summary, "", *markdown_rows(missing_rows), "", "</details>"]
    if table.differences:
        lines += ["", "Known differences:", "", *(f"- {text}" for text in table.differences)]
    if comparisons:
        pairs = counted(len(comparisons), "pair")
        lines += ["", f"Paired t-tests of ACC by seed, p corrected by Holm over {pairs}:", ""]
        lines += ["| first | second | seeds | difference | p |", "|---|---|---|---|---|"]
        for pair in comparisons:
            difference = percent(pair.difference, with_sign=True)
            texts = [pair.first_cell, pair.second_cell, f"{pair.seeds}", difference]
            lines.append(markdown_row([*texts, f"{pair.p_value:.2g}"]))
    if ranks:
        lines += ["", ranks_sentence(ranks)]
    return "\n".join(lines) + "\n"


def markdown_rows(rows: Sequence[TableRow]) -> list[str]:
    """The lines of a Markdown table of these rows."""
    lines = [markdown_row(COLUMNS), "|---" * len(COLUMNS) + "|"]
    return [*lines, *(markdown_row(row_texts(row)) for row in rows)]


def markdown_row(texts: Sequence[str]) -> str:
    """A line of a Markdown table with these texts."""
    return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


def tolerance_lines(table: Table) -> list[str]:
    """What "within" means for the judged cells: a line for each tolerance, with its reason and,
    where there are several, the cells that have it."""
    cells_of: dict[str, list[str]] = {}
    for cell in table.cells:
        metrics = [metric for metric in cell.published if metric in cell.tolerance]
        if cell.missing_requirement or cell.published_status not in JUDGED_STATUSES or not metrics:
            continue
        limits = ", ".join(f"{metric} {percent(cell.tolerance[metric])}" for metric in metrics)
        reason = f" ({cell.tolerance_reason})" if cell.tolerance_reason else ""
        cells_of.setdefault(f"{limits}{reason}", []).append(cell.name)
    if not cells_of:
        return ["No cell is judged."]
    heading = "Within means that the means differ by at most so many points:"
    if len(cells_of) == 1:
        return [f"{heading} {next(iter(cells_of))}."]
    lines = [f"- {limits}: {'; '.join(cells)}." for limits, cells in cells_of.items()]
    return [heading, "", *lines]


def comma_separated(rows: Sequence[TableRow]) -> str:
    """The rows as csv, with all fields of `TableRow`: fractions and seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TableRow._fields)
    writer.writerows(rows)
    return text.getvalue()


def latex(table: Table, rows: Sequence[TableRow]) -> str:
    """The table as LaTeX, for the booktabs package."""
    lines = [r"\begin{tabular}{llrrrrll}", r"\toprule", " & ".join(COLUMNS) + r" \\", r"\midrule"]
    for row in rows:
        texts = [
            text if column in WITH_INTERVAL else text.translate(LATEX_ESCAPES)
            for column, text in zip(COLUMNS, row_texts(row, r"$\pm$"), strict=True)
        ]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([f"% {table.title}", *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_table(
    table: Table,
    rows: Sequence[TableRow],
    comparisons: Sequence[PairedComparison],
    ranks: Ranks | None,
    result_fields_of_cell: dict[str, dict[str, Any]],
    folder: Path,
) -> None:
    """Write table.md, table.csv, table.tex and table.json, and ranks.svg where there are ranks.

    result_fields_of_cell: the `Result` of each cell as a mapping; table.json holds them too.
    """
    content = {
        "table": table.name,
        "rows": [row._asdict() for row in rows],
        "comparisons": [comparison._asdict() for comparison in comparisons],
        "ranks": ranks._asdict() if ranks else None,
        "results": result_fields_of_cell,
    }
    make_folder(folder)
    write_atomically(folder / "table.md", markdown(table, rows, comparisons, ranks))
    write_atomically(folder / "table.csv", comma_separated(rows))
    write_atomically(folder / "table.tex", latex(table, rows))
    write_atomically(folder / "table.json", json.dumps(content, indent=1) + "\n")
    diagram = folder / "ranks.svg"
    if ranks:
        write_atomically(diagram, ranks_diagram(ranks))
    else:  # that of an earlier table, which had ranks
        with os_errors_as_sentences("remove", diagram):
            diagram.unlink(missing_ok=True)
