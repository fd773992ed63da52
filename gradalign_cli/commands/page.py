"""Pages to read: the console that they are printed on, and tables that lose nothing where it is
narrow."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradalign_cli.results.plain_characters import in_encoding
from gradalign_cli.results.terminal import terminal_console

UNLIMITED_WIDTH = 10_000  # in characters, where a program reads the output
LEAST_SENTENCE_WIDTH = 24  # of a column whose text is wrapped
GAP = 2  # between columns


class Column(NamedTuple):
    """A column of a table;  wraps: whether its texts are sentences, to be wrapped at a width."""

    name: str
    wraps: bool = False


def page_console() -> Console:
    """A console as wide as its terminal, or as $COLUMNS says. Where output goes to a file or to
    another program its lines are not wrapped."""
    console = terminal_console(highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return terminal_console(UNLIMITED_WIDTH, highlight=False)


def table_or_stacked_cells(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], console: Console
) -> Table:
    """The rows as a table where it fits the console; otherwise each row's cells stacked beside its
    first one, with the names of their columns. No text is cut."""
    # a plain character may be wider than the one in whose place it stands
    rows = [[in_encoding(cell, console.encoding) for cell in row] for row in rows]
    if least_width(columns, rows) > console.width:
        columns, rows = (columns[0], Column("", wraps=True)), rows_with_stacked_cells(columns, rows)
    named = any(column.name for column in columns[1:])
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=named)
    for column in columns:
        no_wrap = not column.wraps and least_width(columns, rows) <= console.width
        table.add_column(Text(column.name), no_wrap=no_wrap, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def least_width(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """The width in characters that a table needs if its sentences are wrapped."""
    total = GAP * (len(columns) - 1)
    for number, column in enumerate(columns):
        width = max(map(cell_len, [column.name, *(row[number] for row in rows)]))
        total += min(width, LEAST_SENTENCE_WIDTH) if column.wraps else width
    return total


def rows_with_stacked_cells(
    columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """For each row its first cell, and below each other its sentences and one line of its other
    cells; empty cells are left out."""
    stacked = []
    for first, *cells in rows:
        sentences: list[str] = []
        short_cells: list[str] = []
        for column, cell in zip(columns[1:], cells, strict=True):
            text = f"{column.name}: {cell}" if column.name else cell
            if cell:
                (sentences if column.wraps else short_cells).append(text)
        lines = [*sentences, ", ".join(short_cells)] if short_cells else sentences
        stacked.append((first, "\n".join(lines)))
    return stacked
