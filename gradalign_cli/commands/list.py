"""`gradalign list`: every choice with the first line of its config; methods with their table."""

import argparse
import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gradalign_cli.composition.paths import CONF

GROUPS = (
    "methods",
    "buffers",
    "benchmarks",
    "streams",
    "models",
    "optimizers",
    "schedules",
    "experiments",
    "tables",
)
WIDTH = 160  # where there is no terminal to fit into
LEGEND = """
g: gradient on the batch, r: on memory; passes: backward passes beside the one on the batch, T: one
for each earlier task, b and m: examples in the batch and the memory batch; task ids: what training
must be told; bytes: kept beside a memory of 1000 examples by an MLP 784-256-256-10 on 10 tasks;
ACC: our mean / the published one, in percent, of a cell of docs/reproduction.md;
tests: its own + those that every method shares.
More: gradalign explain METHOD"""


def main(arguments: list[str]) -> int:
    """Print the choices of one group, or of all."""
    parser = argparse.ArgumentParser(prog="gradalign list", description="What there is to choose.")
    parser.add_argument("group", nargs="?", choices=GROUPS, help="all when left out")
    group = parser.parse_args(arguments).group
    if group == "methods":
        show_methods(CONF)
    else:
        show(CONF, [group] if group else list(GROUPS))
    return 0


def first_comment(path: Path) -> str:
    """The sentence a config file opens with."""
    line = next((x for x in path.read_text().splitlines() if x.startswith("#")), "")
    if line.startswith("# @package"):
        line = next(x for x in path.read_text().splitlines()[1:] if x.startswith("#"))
    return line.lstrip("# ")


def method_table(conf: Path) -> dict[str, dict[str, str]]:
    """The table of docs/methods.md: for each method its cells under their heads, links as text."""
    lines = (conf.parent / "docs" / "methods.md").read_text().splitlines()
    rows = [
        [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if re.match(r"\| \w+ \|", line)
    ]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def count_tests(tests: Path, name: str) -> str:
    """How many tests a method has of its own, and how many it shares with all methods."""
    files = (tests / "methods" / f"test_{part}.py" for part in (name, "contract"))
    own, shared = (len(re.findall(r"^def test_", f.read_text(), re.MULTILINE)) for f in files)
    return f"{own} + {shared}"


def wide_console() -> Console:
    """A console with room for a table where there is no terminal to fit into."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def show_methods(conf: Path) -> None:
    """Print what each method does, keeps, costs and needs, and in a checkout its tests."""
    console = wide_console()
    found, tests = method_table(conf), conf.parent / "tests"
    table = Table(box=None, pad_edge=False)
    for head in found["agem"]:
        table.add_column(head, no_wrap=head not in ("rule", "keeps"))
    if tests.is_dir():
        table.add_column("tests", no_wrap=True)
    for name, row in found.items():
        counted = [count_tests(tests, name)] if tests.is_dir() else []
        table.add_row(*row.values(), *counted)
    for path in sorted((conf / "method").glob("*.yaml")):
        if path.stem not in found:  # the user's own
            table.add_row(path.stem, first_comment(path))
    console.print(table)
    console.print(LEGEND)


def show(conf: Path, groups: list[str]) -> None:
    """Print the choices of each group, `methods` for the folder `method` and so on."""
    console = Console()
    for group in groups:
        table = Table(
            title=group, title_justify="left", show_header=False, box=None, pad_edge=False
        )
        for path in sorted((conf / group.removesuffix("s")).glob("*.yaml")):
            table.add_row(path.stem, first_comment(path))
        console.print(table)
        console.print()
