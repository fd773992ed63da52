"""Build the documentation as plain files that open from a folder.

    python scripts/make_site.py DEST

Pages that follow from the code (settings, commands, a page a method) are written first, beside a
copy of docs/. Warnings are errors. Needs the extra `docs`.
"""

import argparse
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.utils import get_method
from make_reproduction import all_rows, stored_results
from omegaconf import DictConfig

from gradalign_cli.commands.explain import (
    DIRECTION_COLUMNS,
    Explained,
    direction_rows_by_angle,
    load_method,
    method_facts,
)
from gradalign_cli.commands.list import method_table
from gradalign_cli.commands.setting_rows import SETTING_COLUMNS, setting_rows
from gradalign_cli.commands.train_help import assignments_and_meanings_outside_groups
from gradalign_cli.commands.verbs import VERBS
from gradalign_cli.composition.choices import choices_of_group, first_comment, setting_comments
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.tables.table import load_table, table_names
from gradalign_cli.tables.verdict import TableRow
from gradalign_cli.tables.writing import markdown_rows

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GROUPS = (
    *("benchmark", "stream", "buffer", "method", "model", "augment", "optimizer", "schedule"),
    "experiment",
)


def main() -> int:
    """Write the pages and run Sphinx; returns its exit code."""
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("destination", metavar="DEST", type=Path)
    destination = parser.parse_args().destination
    with TemporaryDirectory() as folder:
        source = Path(folder) / "docs"
        shutil.copytree(DOCS, source)
        for path, text in generated_pages().items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text)
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        code = subprocess.run([*command, source, destination], check=False).returncode
    pages = len(list(Path(destination).rglob("*.html")))
    print(f"{pages} pages, {destination / 'index.html'}")
    return code


def generated_pages() -> dict[str, str]:
    """The text of each page that follows from the code, by its path in docs."""
    pages = {"reference/settings.md": settings_page(), "reference/commands.md": commands_page()}
    for group in GROUPS:
        if group != "method":
            pages[f"reference/{group}.md"] = group_page(group)
    reproduced = reproduced_rows()
    for name in method_table(CONF):
        pages[f"reference/methods/{name}.md"] = method_page(
            load_method(name), reproduced.get(name, [])
        )
    pages["reference/methods/index.md"] = index_page("Methods, a page each", method_table(CONF))
    pages["reproduction.md"] = (DOCS / "reproduction.md").read_text() + toctree(
        [f"reproduction/{name}" for name in table_names(CONF)], hidden=True
    )
    return pages


def index_page(title: str, names: Iterable[str]) -> str:
    """A page that lists pages beside it."""
    return f"# {title}\n\n{toctree(names)}"


def toctree(paths: Iterable[str], hidden: bool = False) -> str:
    """The contents that lead to these pages;  hidden: in the site's navigation alone."""
    option = ":hidden:\n" if hidden else ""
    return f"\n```{{toctree}}\n{option}:maxdepth: 1\n\n" + "\n".join(paths) + "\n```\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines) + "\n"


def escaped(text: str) -> str:
    """A text as the cell of a Markdown table; what stands between backticks stays as it is."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([|*_<>])", r"\\\1", piece) for piece in pieces
    )


def settings_page() -> str:
    """All settings that a run has whatever its parts, with defaults and meaning."""
    config = compose_config(CONF, []).settings
    rows = [(name, meaning) for name, meaning in assignments_and_meanings_outside_groups(config)]
    body = "\n".join(f"| `{name}` | {escaped(meaning)} |" for name, meaning in rows)
    return (
        "# Settings of every run\n\nWritten as `gradalign train SETTING=VALUE`. The parts of a run "
        "have settings of their own: see the pages of the groups.\n\n"
        f"| setting and default | meaning |\n| --- | --- |\n{body}\n"
    )


def group_page(group: str) -> str:
    """What there is to choose of a group, and the settings of each choice."""
    parts = [f"# {group.capitalize()}s\n", f"Chosen by `{how_chosen(group)}`.\n"]
    for choice in choices_of_group(group, None):
        parts.append(f"## {choice.name}\n\n{first_comment(choice.path)}\n")
        if group in ("experiment", "schedule", "stream", "augment"):
            text = choice.path.read_text()
            parts.append(f"```yaml\n{text}```\n")
            continue
        config = DictConfig(compose_config(CONF, [f"{group}={choice.name}"]).settings[group])
        parts.append(settings_table(group, config, setting_comments(choice.path)))
    return "\n".join(parts)


def how_chosen(group: str) -> str:
    """How a part of a group is chosen on the command line."""
    return f"gradalign train {group}=NAME"


def settings_table(group: str, config: DictConfig, comments: dict[str, str]) -> str:
    """The settings of a part as a Markdown table."""
    rows = setting_rows(group, config, comments)
    if not rows:
        return "No settings.\n"
    body = "\n".join(
        f"| `{name}` | {escaped(kind)} | {escaped(text)} |" for name, kind, text in rows
    )
    head = " | ".join(column.name for column in SETTING_COLUMNS)
    return f"| {head} |\n| --- | --- | --- |\n{body}\n"


def commands_page() -> str:
    """The help of every verb."""
    parts = ["# Commands\n"]
    for verb, sentence in VERBS.items():
        parts.append(f"## gradalign {verb}\n\n{sentence}\n\n```text\n{help_text(verb)}\n```\n")
    return "\n".join(parts)


def help_text(verb: str) -> str:
    """What `gradalign VERB --help` prints."""
    page = StringIO()
    with redirect_stdout(page), suppress(SystemExit, UserError):
        import_module(f"gradalign_cli.commands.{verb}").main(["--help"])
    return page.getvalue().rstrip()


def method_page(explained: Explained, reproduced: Sequence[TableRow]) -> str:
    """The page of a method: rule, picture, cost, settings, what was reproduced, and its code."""
    choice, config, method = explained
    function = get_method(config["_target_"])
    row = method_table(CONF)[choice.name]
    facts = method_facts(method, row)
    parts = [
        f"# {choice.name}\n",
        f"{first_comment(choice.path)}\n",
        f"```text\n{inspect.getdoc(function)}\n```\n",
        table(("", ""), facts),
        "\n## Settings\n",
        settings_table("method", config, setting_comments(choice.path)),
    ]
    if method.references != "nothing":
        columns = [column.name for column in DIRECTION_COLUMNS]
        parts += [
            "\n## In the plane\n",
            f"![{choice.name}](../../gallery/{choice.name}.svg)\n",
            table(columns, direction_rows_by_angle(method)),
        ]
    if reproduced:
        parts += ["\n## Reproduced\n", "\n".join(markdown_rows(reproduced)) + "\n"]
    source = inspect.getsource(inspect.getmodule(function) or function)
    parts += ["\n## Code\n", f"```python\n{source}```\n"]
    return "\n".join(parts)


def reproduced_rows() -> dict[str, list[TableRow]]:
    """For each method the rows of the papers' tables that were run with it."""
    rows: dict[str, list[TableRow]] = {}
    for name in table_names(CONF):
        paper = load_table(CONF, name)
        methods = {cell.name: cell_method(cell.overrides) for cell in paper.cells}
        for row in all_rows(paper, stored_results(DOCS / "results", paper)):
            if row.n:
                title = f"{paper.title}: {row.cell}"
                rows.setdefault(methods[row.cell], []).append(row._replace(cell=title))
    return rows


def cell_method(overrides: Sequence[str]) -> str:
    """The method that the runs of a cell use."""
    return (
        str(compose_config(CONF, list(overrides)).settings["method"]["name"]) if overrides else ""
    )


if __name__ == "__main__":
    sys.exit(main())
