"""The table of a report as csv, Markdown and LaTeX (booktabs), and for the terminal."""

import csv
import io
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gradalign_cli.reports.rows import Row
from gradalign_cli.reports.settings import ABSENT
from gradalign_cli.reports.text import TITLE, cell_texts, column_names, notes
from gradalign_cli.results.latex import LATEX_ESCAPES

NUMBERS = ("metric", "n", "mean", "std", "low", "high")
DIFFERENCES = ("difference", "difference_low", "difference_high", "common_seeds", "p", "verdict")
FORMULAS = ("=", "+", "@", "\t")  # what spreadsheets take for a formula begins so


def comma_separated(rows: Sequence[Row], sort_metric: str) -> str:
    """A line for each row and metric, as fractions. The difference stands beside the metric that
    rows are sorted by."""
    names = list(dict.fromkeys(name for row in rows for name in row.group.distinguishing_settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", *names, *NUMBERS, *DIFFERENCES])
    for row in rows:
        settings = [row.group.distinguishing_settings.get(name, ABSENT) for name in names]
        for metric, numbers in row.summaries.items():
            values = [
                "" if numbers[name] is None else f"{numbers[name]:.6g}"
                for name in ("n", "mean", "std", "ci95_low", "ci95_high")
            ]
            words = [formula_safe_cell(word) for word in (row.group.label, *settings)]
            writer.writerow(
                [*words, metric, *values, *difference_cells(row, metric == sort_metric)]
            )
    return text.getvalue()


def formula_safe_cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text


def difference_cells(row: Row, is_sort_metric: bool) -> list[str]:
    """The cells of DIFFERENCES, empty where there is no difference."""
    difference = row.difference
    if difference is None or not is_sort_metric:
        return [""] * len(DIFFERENCES)
    numbers = (difference.mean, difference.low, difference.high, difference.n, row.p_value)
    return [*("" if n is None else f"{n:.6g}" for n in numbers), row.verdict]


def markdown(rows: Sequence[Row], sort_metric: str, warnings: Sequence[str]) -> str:
    """The table as Markdown, with its notes and what makes rows incomparable."""
    names = column_names(rows, sort_metric)
    lines = [f"{TITLE}.", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        texts = [escaped_markdown(text) for text in cell_texts(row, rows, sort_metric)]
        lines.append("| " + " | ".join(texts) + " |")
    lines += ["", *(f"- {escaped_markdown(note)}" for note in notes(rows, sort_metric))]
    lines += [f"- Warning: {escaped_markdown(warning)}" for warning in warnings]
    return "\n".join(lines) + "\n"


def escaped_markdown(text: str) -> str:
    """Text in which Markdown finds no table, link, code or HTML."""
    for letter in "\\|[]`*_":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("<", "&lt;")


def latex(rows: Sequence[Row], sort_metric: str) -> str:
    """The table as LaTeX, for the booktabs package."""
    names = column_names(rows, sort_metric)
    lines = [f"% {TITLE}".replace("±", "+-"), rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}"]
    lines += [r"\toprule", " & ".join(map(escaped_latex, names)) + r" \\", r"\midrule"]
    for row in rows:
        texts = [escaped_latex(text) for text in cell_texts(row, rows, sort_metric)]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped_latex(text: str) -> str:
    """Text as LaTeX prints it; signs of numbers are those of mathematics."""
    text = text.translate(LATEX_ESCAPES).replace("±", r"$\pm$")
    return f"${text[0]}${text[1:]}" if text[:1] in ("-", "+") and text[1:2].isdigit() else text


def terminal_table(rows: Sequence[Row], sort_metric: str) -> Table:
    """The table for the terminal."""
    table = Table(title=TITLE, title_justify="left")
    for number, name in enumerate(column_names(rows, sort_metric)):
        is_text = name in ("setting", "verdict")
        table.add_column(
            Text(name), justify="left" if is_text else "right", no_wrap=number > 0, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, cell_texts(row, rows, sort_metric)))
    return table
