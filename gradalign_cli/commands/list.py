"""`gradalign list`: every choice with the first line of its config; methods with their table."""

import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.paths import CONF
from gradalign_cli.results.terminal import terminal_console

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
WIDTH_WITHOUT_TERMINAL = 160  # in characters
LEGEND = """
g: gradient on the batch, r: on memory; passes: backward passes beside the one on the batch, T: one
for each earlier task, b and m: examples in the batch and the memory batch; task ids: what training
must be told; bytes: of the method's state, beside a memory of 1000 examples, for an MLP
784-256-256-10 and 10 tasks; ACC: our mean / the published one, in percent, of a cell of
docs/reproduction.md; tests: those of the method alone + those that all methods share.
More: gradalign explain METHOD"""


def main(arguments: list[str]) -> int:
    """Print the choices of one group, or of all; returns the exit code."""
    parser = VerbParser(prog="gradalign list", description="What there is to choose.")
    parser.add_argument("group", nargs="?", choices=GROUPS, help="all when left out")
    group = parser.parse_args(arguments).group
    if group == "methods":
        print_methods(CONF)
    else:
        print_choices(CONF, [group] if group else list(GROUPS))
    return 0


def first_comment(path: Path) -> str:
    """The sentence that a config file opens with, after a line `# @package`."""
    comments = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    ]
    sentences = [line for line in comments if not line.startswith("# @package")]
    return sentences[0].lstrip("# ") if sentences else ""


def method_table(conf_folder: Path) -> dict[str, dict[str, str]]:
    """The table of docs/methods.md: for each method its cells by column, links as plain text."""
    lines = (conf_folder.parent / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if re.match(r"\| \w+ \|", line)
    ]
    columns = rows[0]
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows[1:]}


def method_test_counts(tests: Path, method_name: str) -> str:
    """The number of a method's own tests + that of the tests that all methods share, as text.

    tests: the folder of all tests.
    """
    files = [tests / "methods" / f"test_{name}.py" for name in (method_name, "contract")]
    own_count, shared_count = (
        len(re.findall(r"^def test_", file.read_text(), re.MULTILINE)) for file in files
    )
    return f"{own_count} + {shared_count}"


def wide_console() -> Console:
    """A console; where it is no terminal, one that is wide enough for our tables."""
    console = terminal_console()
    return console if console.is_terminal else terminal_console(WIDTH_WITHOUT_TERMINAL)


def print_methods(conf_folder: Path) -> None:
    """Print the table of methods: their rules, costs and needs, and in a checkout their tests."""
    console = wide_console()
    methods, tests = method_table(conf_folder), conf_folder.parent / "tests"
    table = Table(box=None, pad_edge=False)
    for column in methods["agem"]:
        table.add_column(column, no_wrap=column not in ("rule", "keeps"))
    if tests.is_dir():
        table.add_column("tests", no_wrap=True)
    for name, row in methods.items():
        counts = [method_test_counts(tests, name)] if tests.is_dir() else []
        table.add_row(*row.values(), *counts)
    for path in sorted((conf_folder / "method").glob("*.yaml")):
        if path.stem not in methods:  # the user's own
            table.add_row(path.stem, first_comment(path))
    console.print(table)
    console.print(LEGEND)


def print_choices(conf_folder: Path, groups: list[str]) -> None:
    """Print the choices of each group; the choices of `methods` are the files of conf/method."""
    console = terminal_console()
    for group in groups:
        table = Table(
            title=group, title_justify="left", show_header=False, box=None, pad_edge=False
        )
        for path in sorted((conf_folder / group.removesuffix("s")).glob("*.yaml")):
            table.add_row(path.stem, first_comment(path))
        console.print(table)
        console.print()
