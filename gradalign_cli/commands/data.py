"""`gradalign data`: which datasets are on this machine, and how to get the others."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from gradalign_cli.commands.page import Column, page_console, table_or_stacked_cells
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.data.dataset import NAMES
from gradalign_cli.data.sources import (
    data_folder,
    dataset_statuses,
    import_image_folder,
    prepare_dataset,
)
from gradalign_cli.errors import require_name

STATUS_COLUMNS = (
    Column("dataset"),
    Column("train"),
    Column("test"),
    Column("classes"),
    Column("image"),
    Column("where", wraps=True),
)


def main(arguments: list[str]) -> int:
    """Print the status of the datasets, or prepare some; returns the exit code."""
    parser = VerbParser(prog="gradalign data", description="The datasets on this machine.")
    parser.add_argument("--data-dir", help="the data folder (default: $GRADALIGN_DATA, or a cache)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("status", help="which datasets are on this machine, and where")
    prepare = actions.add_parser("prepare", help="find, check and store datasets as NAME.npz")
    prepare.add_argument("names", nargs="+", metavar="NAME", help=", ".join(NAMES))
    imported = actions.add_parser(
        "import", help="store a folder of images as NAME.npz: train/CLASS/*, test/CLASS/*"
    )
    imported.add_argument("names", nargs=1, metavar="NAME", help="that benchmark.dataset= takes")
    imported.add_argument(
        "folder", metavar="FOLDER", help="with train and test (or val), or CLASS/*"
    )
    imported.add_argument("--size", type=int, default=64, help="in pixels (default: 64)")
    options = parser.parse_args(arguments)
    if options.action == "import":
        folder = Path(options.folder)
        print(import_image_folder(options.names[0], folder, options.size, options.data_dir))
    elif options.action == "prepare":
        prepare_datasets(options.names, options.data_dir)
    else:
        print_status(options.data_dir, page_console())
    return 0


def print_status(data_dir: str | None, console: Console) -> None:
    """Print where each dataset is, or what can be done to get it."""
    rows = []
    for status in dataset_statuses(data_dir):
        counts = ["", "", "", ""]
        if status.available:
            shape = " x ".join(map(str, status.image_shape))
            counts = [str(status.train), str(status.test), str(status.classes), shape]
        rows.append((status.name, *counts, status.location_or_problem))
    console.print(Text(f"data folder {data_folder(data_dir)}", style="bold"), soft_wrap=True)
    console.print(table_or_stacked_cells(STATUS_COLUMNS, rows, console))
    console.print(
        "train, test: numbers of images; image: channels x height x width. Own data is NAME.npz "
        "with x_train, y_train, x_test, y_test in the data folder."
    )


def prepare_datasets(names: list[str], data_dir: str | None) -> None:
    """Find or download each dataset, check it and store it as NAME.npz; print where. Raises
    UserError before the first one where a name is unknown."""
    folder = data_folder(data_dir)
    all_names = [*NAMES, *(path.stem for path in folder.glob("*.npz"))]
    domain = f"one of {', '.join(NAMES)} or of an .npz file in {folder}"
    for name in names:
        require_name(name, all_names, "NAME", domain)
    for name in names:
        print(prepare_dataset(name, data_dir))
