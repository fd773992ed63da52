"""A reproduced table in every form: terminal, Markdown, csv, LaTeX (booktabs), json."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from gradalign_cli.results.run_folder import write_atomically
from gradalign_cli.tables.ranks import Ranks, picture, sentence
from gradalign_cli.tables.table import Table
from gradalign_cli.tables.verdict import Comparison, Row

HEADS = ("cell", "metric", "published", "ours", "n", "difference", "verdict", "time")
LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction in percent; a dash where there is none."""
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"


def ours(row: Row, plus_minus: str) -> str:
    """Our mean and half the width of its interval."""
    if row.mean is None or row.high is None:
        return percent(row.mean)
    return f"{percent(row.mean)} {plus_minus} {percent(row.high - row.mean)}"


def cells(row: Row, plus_minus: str = "±") -> list[str]:
    """A row as text, in the order of HEADS."""
    published = percent(row.published) + (" (memory)" if row.status == "MEMORY" else "")
    time = "-" if row.seconds is None else f"{row.seconds / 60:.1f} min"
    verdict = f"{row.verdict}: {row.explained}" if row.explained else row.verdict
    shown = [row.cell, row.metric, published, ours(row, plus_minus), str(row.n)]
    return [*shown, percent(row.difference, sign=True), verdict, time]


def score(rows: Sequence[Row]) -> str:
    """How many of the judged numbers are within their tolerance, and of how many others we know why
    they are not."""
    judged = [row for row in rows if not row.verdict.startswith("not judged")]
    within = sum(row.verdict == "within" for row in judged)
    known = sum(bool(row.explained) for row in judged)
    explained = f" ({known} of the others explained)" if known else ""
    return (
        f"{within} of {len(judged)} judged numbers within tolerance{explained}, "
        f"{len(rows)} published"
    )


def grid(table: Table, rows: Sequence[Row]) -> Grid:
    """For the terminal."""
    found = Grid(title=f"{table.title}, in percent", title_justify="left")
    for head in HEADS:
        found.add_column(head)
    for row in rows:
        found.add_row(*cells(row))
    return found


def markdown(
    table: Table,
    rows: Sequence[Row],
    compared: Sequence[Comparison],
    ranked: Ranks | None,
    level: int = 1,
) -> str:
    """With the table's source, what is known to differ, paired comparisons and average ranks."""
    lines = [f"{'#' * level} {table.title}", "", f"Published: {table.source}."]
    lines[-1] += " In percent; ours with a 95% t-interval over seeds."
    lines += ["", f"{score(rows)}.", "", "| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    lines += ["| " + " | ".join(t.replace("|", r"\|") for t in cells(row)) + " |" for row in rows]
    if table.differences:
        lines += ["", "Known differences:", "", *(f"- {text}" for text in table.differences)]
    if compared:
        lines += ["", "Paired by seed, p corrected by Holm:", ""]
        lines += ["| first | second | seeds | difference | p |", "|---|---|---|---|---|"]
        for c in compared:
            difference = percent(c.difference, sign=True)
            lines.append(f"| {c.first} | {c.second} | {c.seeds} | {difference} | {c.p:.2g} |")
    if ranked:
        lines += ["", sentence(ranked)]
    return "\n".join(lines) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """Every field of the rows, in fractions and seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    return text.getvalue()


def latex(table: Table, rows: Sequence[Row]) -> str:
    """A table for the booktabs package."""

    lines = [r"\begin{tabular}{llrrrrll}", r"\toprule", " & ".join(HEADS) + r" \\", r"\midrule"]
    lines += [
        " & ".join(
            text if k == 3 else text.translate(LATEX) for k, text in enumerate(cells(row, r"$\pm$"))
        )
        + r" \\"
        for row in rows
    ]
    return "\n".join([f"% {table.title}", *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(
    table: Table,
    rows: Sequence[Row],
    compared: Sequence[Comparison],
    ranked: Ranks | None,
    results: dict[str, Any],
    folder: Path,
) -> None:
    """table.md, table.csv, table.tex and table.json, which also holds each cell's seeds; ranks.svg
    where there are ranks."""
    found = {
        "table": table.name,
        "rows": [row._asdict() for row in rows],
        "comparisons": [c._asdict() for c in compared],
        "ranks": ranked._asdict() if ranked else None,
        "results": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "table.md", markdown(table, rows, compared, ranked))
    write_atomically(folder / "table.csv", comma_separated(rows))
    write_atomically(folder / "table.tex", latex(table, rows))
    write_atomically(folder / "table.json", json.dumps(found, indent=1) + "\n")
    if ranked:
        write_atomically(folder / "ranks.svg", picture(ranked))
