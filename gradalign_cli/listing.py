"""`gradalign list`: every choice with the first line of its config."""

from pathlib import Path

from rich.console import Console
from rich.table import Table


def first_comment(path: Path) -> str:
    """The sentence a config file opens with."""
    line = next((x for x in path.read_text().splitlines() if x.startswith("#")), "")
    if line.startswith("# @package"):
        line = next(x for x in path.read_text().splitlines()[1:] if x.startswith("#"))
    return line.lstrip("# ")


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
