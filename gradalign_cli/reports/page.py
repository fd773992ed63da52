"""A report as one HTML page that needs nothing else: no network, no other file.

Text from run folders is escaped wherever it stands; a policy in the head forbids the page to load
anything.
"""

import shlex
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from gradalign_cli.errors import counted
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.inline_svg import inline_svg
from gradalign_cli.reports.plot import Plot
from gradalign_cli.reports.plots import report_plots
from gradalign_cli.reports.report import Report
from gradalign_cli.reports.rows import Row
from gradalign_cli.reports.settings import ABSENT
from gradalign_cli.reports.text import TITLE, cell_texts, column_names, notes

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MOST_COMMANDS, MOST_NUMBERS = 200, 400  # rows in lists that are folded


def report_page(report: Report, title: str, plots: Sequence[Plot] | None = None) -> str:
    """The page of a report.

    plots: its figures; None: all that its rows have.
    """
    figures = report_plots(report.rows) if plots is None else plots
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{counts_and_baseline_sentence(report)}</p>',
        warnings_box(report.warnings),
        f'<h2>Results</h2><p class="soft">{escape(TITLE)}. A click on a column sorts.</p>',
        results_table(report),
        f'<p class="soft">{"<br>".join(map(escape, notes(report.rows, report.sort_metric)))}</p>',
        *map(figure_section, figures),
        differing_settings_section([row.group for row in report.rows]),
        repeat_commands_section(report.rows),
    ]
    return html_page(title, "\n".join(body))


def html_page(title: str, body_html: str) -> str:
    """A whole page with this body."""
    folder = files("gradalign_cli.reports")
    css, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<main>
{body_html}
</main>
<script>
{script}</script>
</body>
</html>
"""


def counts_and_baseline_sentence(report: Report) -> str:
    """What the page is about."""
    runs = {run.folder for row in report.rows for run in row.group.runs()}
    seeds = sum(len(row.group.replica_of_seed) for row in report.rows)
    sentence = ", ".join(
        counted(number, noun)
        for number, noun in ((len(report.rows), "setting"), (seeds, "replica"), (len(runs), "run"))
    )
    if report.baseline_label is not None:
        sentence += f"; compared with {report.baseline_label}"
    return escape(sentence)


def warnings_box(warnings: Sequence[str]) -> str:
    """What makes rows incomparable, empty where nothing does."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    head = "<strong>Before you compare</strong>"
    return f'<div class="warnings" role="note">{head}<ul>{items}</ul></div>'


def results_table(report: Report) -> str:
    """The table of rows, which sorts."""
    names = column_names(report.rows, report.sort_metric)
    values = [sort_keys(row, names) for row in report.rows]
    texts = [cell_texts(row, report.rows, report.sort_metric) for row in report.rows]
    return html_table(names, texts, values, "results")


def sort_keys(row: Row, column_names: Sequence[str]) -> list[float | None]:
    """What each column sorts by; None: by its text."""
    difference = None if row.difference is None else row.difference.mean
    values: list[float | None] = []
    for name in column_names:
        if name in row.summaries:
            values.append(row.summaries[name]["mean"])
        elif name == "n":
            values.append(len(row.group.replica_of_seed))
        else:
            nan = float("nan")
            of_difference = {"p": row.p_value, column_names[-3]: difference}
            is_number = (
                name in of_difference and len(column_names) > 3 and column_names[-1] == "verdict"
            )
            value = of_difference.get(name) if is_number else None
            values.append(nan if is_number and value is None else value)
    return values


def html_table(
    column_names: Sequence[str],
    row_texts: Sequence[Sequence[str]],
    sort_keys_of_rows: Sequence[Sequence[float | None]] | None = None,
    element_id: str = "",
) -> str:
    """A table of texts; with values to sort by its columns can be sorted."""
    is_sortable = bool(sort_keys_of_rows)
    head = "".join(
        f'<th scope="col">{f"<button>{escape(n)}</button>" if is_sortable else escape(n)}</th>'
        for n in column_names
    )
    lines = []
    for number, row in enumerate(row_texts):
        of_row = sort_keys_of_rows[number] if sort_keys_of_rows else [None] * len(row)
        lines.append(f"<tr>{''.join(map(table_cell, row, of_row))}</tr>")
    kind = ' class="sortable"' if is_sortable else ""
    identity = f' id="{element_id}"' if element_id else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}{identity}>'
        f"<thead><tr>{head}</tr></thead><tbody>" + "\n".join(lines) + "</tbody></table></div>"
    )


def table_cell(text: str, sort_key: float | None) -> str:
    """A cell of a table, with what it sorts by; a text stands to the left."""
    if sort_key is None:
        is_number = text[:1].isdigit() or text[:1] in "-+"
        return f"<td>{escape(text)}</td>" if is_number else f'<td class="text">{escape(text)}</td>'
    number = "NaN" if sort_key != sort_key else repr(float(sort_key))
    return f'<td data-value="{number}">{escape(text)}</td>'


def figure_section(plot: Plot) -> str:
    """A figure, how to read it, and its numbers."""
    table = html_table(plot.table_columns, plot.table_rows[:MOST_NUMBERS])
    more = max(0, len(plot.table_rows) - MOST_NUMBERS)
    left_out = f"<p class='soft'>and {more} more rows</p>" if more else ""
    return (
        f'<h2>{escape(plot.title)}</h2><figure id="{plot.name}">{inline_svg(plot)}'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        f"<details><summary>the numbers</summary>{table}{left_out}"
        "</details>"
    )


def differing_settings_section(groups: Sequence[Group]) -> str:
    """What differs between the settings of the rows, beside what their labels tell."""
    names = list(dict.fromkeys(name for group in groups for name in group.settings))
    differing = [n for n in names if len({g.settings.get(n, ABSENT) for g in groups}) > 1]
    if not differing:
        return ""
    rows = [[g.label, *(g.settings.get(n, ABSENT) for n in differing)] for g in groups]
    return f"<h2>What differs between the settings</h2>{html_table(['setting', *differing], rows)}"


def repeat_commands_section(rows: Sequence[Row]) -> str:
    """How to repeat each run."""
    runs = list({run.folder: run for row in rows for run in row.group.runs()}.values())
    commands = [
        f"gradalign train --config-path {shlex.quote(str(run.folder))} --config-name config"
        for run in runs[:MOST_COMMANDS]
    ]
    items = "".join(f"<li><code>{escape(command)}</code></li>" for command in commands)
    more = f"<li>and {len(runs) - MOST_COMMANDS} more</li>" if len(runs) > MOST_COMMANDS else ""
    commands_list = f"<details><summary>commands</summary><ul>{items}{more}</ul></details>"
    return f"<h2>How to repeat each run</h2>{commands_list}"
