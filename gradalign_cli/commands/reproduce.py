"""`gradalign reproduce TABLE`: train what a paper's table needs, print published beside ours."""

import argparse
import sys
from pathlib import Path

from gradalign_cli.commands.page import page_console
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import require
from gradalign_cli.tables.reproduce import reproduce
from gradalign_cli.tables.request import Request, checked_overrides

# `gradalign train` as a process that ends when this one ends
TRAIN_COMMAND = (sys.executable, "-m", "gradalign_cli.tables.leash", "gradalign_cli.cli", "train")


def main(arguments: list[str]) -> int:
    """Reproduce one table; returns the exit code: 1 where a run failed."""
    options = argument_parser().parse_intermixed_args(arguments)
    tables = [word for word in options.words if "=" not in word]
    domain = "the name of one table that `gradalign list tables` shows"
    require(len(tables) == 1, "TABLE", domain, " ".join(tables))
    overrides = [word for word in options.words if "=" in word]
    finished_run_folders = getattr(options, "from")
    for option, folders in (("--from", finished_run_folders), ("--out", [options.out])):
        require("" not in folders, option, "the name of a folder", "")
    request = Request(
        options.cells,
        options.seeds,
        options.budget,
        options.quick,
        options.at_once,
        tuple(map(Path, finished_run_folders)),
        checked_overrides(overrides),
        TRAIN_COMMAND,
    )
    return reproduce(CONF, tables[0], request, Path(options.out).resolve(), page_console())


def argument_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    parser = VerbParser(
        prog="gradalign reproduce", description="A paper's table: published beside ours."
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TABLE OVERRIDE",
        help="`gradalign list tables` names the tables; device=, hydra/launcher=, ...",
    )
    parser.add_argument(
        "--cells", default="*", metavar="PATTERN", help="such as '*GEM*'; all by default"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1 of each cell; 5"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MIN",
        help="start no cell that would end later or is of unknown length; 0: start none",
    )
    parser.add_argument("--quick", action="store_true", help="small runs, which are not judged")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="cells at a time")
    parser.add_argument(
        "--from",
        nargs="+",
        default=[],
        metavar="DIR",
        help="finished runs to use too: folders of runs, of a table or of tables",
    )
    parser.add_argument("--out", default="outputs/tables", metavar="DIR", help="outputs/tables")
    return parser
