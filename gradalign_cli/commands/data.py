"""`gradalign data`: which datasets are on this machine, and how to get the others."""

from rich.table import Table

from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.data.sources import data_folder, dataset_statuses, prepare_dataset
from gradalign_cli.results.terminal import terminal_console


def main(arguments: list[str]) -> int:
    """Print the status of the datasets, or prepare some; returns the exit code."""
    parser = VerbParser(prog="gradalign data", description="The datasets on this machine.")
    parser.add_argument("--data-dir", help="the data folder (default: $GRADALIGN_DATA, or a cache)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("status", help="which datasets are on this machine, and where")
    prepare = actions.add_parser("prepare", help="find, check and store datasets as NAME.npz")
    prepare.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    if options.action == "prepare":
        prepare_datasets(options.names, options.data_dir)
    else:
        print_status(options.data_dir)
    return 0


def print_status(data_dir: str | None) -> None:
    """Print where each dataset is, or what can be done to get it."""
    table = Table(title=f"data folder {data_folder(data_dir)}", title_justify="left")
    for column in ("dataset", "train", "test", "classes", "image", "where"):
        table.add_column(column, overflow="fold")
    for status in dataset_statuses(data_dir):
        if status.available:
            counts = str(status.train), str(status.test), str(status.classes)
            shape = " x ".join(map(str, status.image_shape))
            table.add_row(status.name, *counts, shape, status.location_or_problem)
        else:
            table.add_row(status.name, "", "", "", "", status.location_or_problem)
    terminal_console().print(table)


def prepare_datasets(names: list[str], data_dir: str | None) -> None:
    """Find or download each dataset, check it and store it as NAME.npz; print where."""
    for name in names:
        print(prepare_dataset(name, data_dir))
