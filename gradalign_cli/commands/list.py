"""`gradalign list`: every choice with the first line of its config; methods with their table."""

import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gradalign_cli.commands.page import Column, page_console, table_or_stacked_cells
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.choices import Choice, choices_of_group, first_comment
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.plugins import installed_plugins
from gradalign_cli.errors import require_name

HOW_TO_CHOOSE = {
    "methods": "gradalign train method=NAME",
    "buffers": "gradalign train buffer=NAME",
    "benchmarks": "gradalign train benchmark=NAME",
    "streams": "gradalign train stream=NAME",
    "models": "gradalign train model=NAME",
    "augments": "gradalign train augment=NAME",
    "optimizers": "gradalign train optimizer=NAME",
    "schedules": "gradalign train schedule=NAME",
    "experiments": "gradalign train +experiment=NAME",
    "tables": "gradalign reproduce NAME",
}
GROUPS = tuple(HOW_TO_CHOOSE)
DATASETS = "datasets"  # which are no config group
METHOD_COLUMNS = ("method", "rule", "keeps", "passes", "task ids", "bytes", "paper")
SENTENCE_COLUMNS = ("rule", "keeps")
LEGEND = """
g: gradient on the batch, r: on memory, r_t: on that of earlier task t, T: the number of tasks, P: \
of parameters.
rule: the direction that is followed, or what is added to the loss (+).
keeps: what the method stores beside the memory.
passes: backward passes in a step beside the one on the batch; T: one for each earlier task, b and \
m: examples in the batch and the memory batch.
task ids: what training must be told: the task of each example, where a task ends, or nothing (no).
bytes: of what it keeps, for an MLP 784-256-256-10, 10 tasks and a memory of 1000 examples; \
"grows" with the tasks.
paper: its arXiv number, or its authors."""
TESTS_LEGEND = "tests: those of the method alone + those that all methods share."


def main(arguments: list[str]) -> int:
    """Print the choices of one group, or of all; returns the exit code."""
    parser = VerbParser(prog="gradalign list", description="What there is to choose.")
    names = ", ".join((*GROUPS, DATASETS))
    parser.add_argument("group", nargs="?", metavar="GROUP", help=f"{names}; all when left out")
    parser.add_argument("--config-dir", metavar="FOLDER", help="show the parts in it too")
    options = parser.parse_args(arguments)
    console = page_console()
    if options.group is None:
        print_all_choices(options.config_dir, console)
        return 0
    groups = (*GROUPS, DATASETS)
    group = f"{options.group}s" if f"{options.group}s" in groups else options.group
    require_name(group, groups, "GROUP", f"one of {names}")
    if group == "methods":
        print_methods(CONF, options.config_dir, console)
    elif group == DATASETS:
        from gradalign_cli.commands.data import print_status

        print_status(None, console)
    else:
        print_choices(group, options.config_dir, console)
    return 0


def print_all_choices(config_dir: str | None, console: Console) -> None:
    """Print the choices of every group."""
    for group in GROUPS:
        print_choices(group, config_dir, console)
        console.print()
    for name, module in installed_plugins().items():
        console.print(Text(f"installed plugin {name}, of {module}: plugins=[{name}] uses it"))
    console.print(
        "`gradalign list methods`: what each method does, keeps and needs; `gradalign list "
        "datasets`: which are on this machine"
    )


def print_choices(group: str, config_dir: str | None, console: Console) -> None:
    """Print a group's name, how many choices it has and how one is chosen, and the choices."""
    choices = choices_of_group(group.removesuffix("s"), config_dir)
    title = f"{group} ({len(choices)}): {HOW_TO_CHOOSE[group]}"
    console.print(Text(title, style="bold"))
    rows = [(f"  {choice.name}", sentence_of(choice)) for choice in choices]
    if rows:
        console.print(table_or_stacked_cells((Column(""), Column("", wraps=True)), rows, console))


def sentence_of(choice: Choice) -> str:
    """What a choice's config says it is; a user's part is marked by the folder it lies in."""
    hidden = ": not taken, as ours has this name" if choice.is_shadowed else ""
    mark = f"[in {choice.config_dir}{hidden}] " if choice.config_dir else ""
    return mark + first_comment(choice.path)


def method_table(shipped_conf_folder: Path) -> dict[str, dict[str, str]]:
    """The table of docs/methods.md: for each method its cells by column, links as plain text."""
    page = shipped_conf_folder.parent / "docs" / "methods.md"
    rows = [
        [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip() for cell in line.split("|")[1:-1]]
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| \w+ \|", line)
    ]
    columns = rows[0]
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows[1:]}


def method_test_counts(tests_folder: Path, method_name: str) -> str:
    """The number of a method's own tests + that of the tests that all methods share, as text.

    tests_folder: the folder of all tests.
    """
    files = [tests_folder / "methods" / f"test_{name}.py" for name in (method_name, "contract")]
    own_count, shared_count = (
        len(re.findall(r"^def test_", file.read_text(), re.MULTILINE)) for file in files
    )
    return f"{own_count} + {shared_count}"


def print_methods(shipped_conf_folder: Path, config_dir: str | None, console: Console) -> None:
    """Print the table of methods: their rules, costs and needs, and in a checkout their tests."""
    methods, tests = method_table(shipped_conf_folder), shipped_conf_folder.parent / "tests"
    has_tests = tests.is_dir()
    columns = [Column(name, name in SENTENCE_COLUMNS) for name in METHOD_COLUMNS]
    rows = [[row[name] for name in METHOD_COLUMNS] for row in methods.values()]
    if has_tests:
        columns.append(Column("tests"))
        rows = [[*row, method_test_counts(tests, row[0])] for row in rows]
    blanks = [""] * (len(columns) - 2)
    for choice in choices_of_group("method", config_dir, shipped_conf_folder):
        if choice.config_dir or choice.name not in methods:
            rows.append([choice.name, sentence_of(choice), *blanks])
    console.print(table_or_stacked_cells(columns, rows, console))
    console.print(Text(LEGEND + (f"\n{TESTS_LEGEND}" if has_tests else "")))
    console.print("Sentences: gradalign list. More on one: gradalign explain METHOD")
