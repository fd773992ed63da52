"""`gradalign data`: what is on this machine, and getting what is not."""

import argparse

from rich.console import Console
from rich.table import Table

from gradalign_cli.data.sources import data_folder, prepare, status


def main(arguments: list[str]) -> int:
    """Show where the datasets are, or prepare some."""
    parser = argparse.ArgumentParser(
        prog="gradalign data", description="The datasets on this machine."
    )
    parser.add_argument("--data-dir", help="the data folder (default: $GRADALIGN_DATA, or a cache)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("status", help="what is there, and where")
    prepare = actions.add_parser("prepare", help="find, check and keep datasets as NAME.npz")
    prepare.add_argument("names", nargs="+", metavar="NAME")
    chosen = parser.parse_args(arguments)
    if chosen.action == "prepare":
        prepare_all(chosen.names, chosen.data_dir)
    else:
        show_status(chosen.data_dir)
    return 0


def show_status(data_dir: str | None) -> None:
    """Print where each dataset is."""
    table = Table(title=f"data folder {data_folder(data_dir)}", title_justify="left")
    for column in ("dataset", "train", "test", "classes", "where"):
        table.add_column(column, overflow="fold")
    for row in status(data_dir):
        if row.found:
            table.add_row(row.name, str(row.train), str(row.test), str(row.classes), row.where)
        else:
            table.add_row(row.name, "", "", "", row.where)
    Console().print(table)


def prepare_all(names: list[str], data_dir: str | None) -> None:
    """Find or download each dataset, check it and keep it as NAME.npz."""
    for name in names:
        print(prepare(name, data_dir))
