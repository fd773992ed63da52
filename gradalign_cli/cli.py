"""The command line: `gradalign train`, `reproduce`, `tune`, `list`, `explain`, `data`."""

import argparse
import os
import sys
from pathlib import Path

from gradalign_cli import __version__

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
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


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 where the input was at fault."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] in (["train"], ["-sc"]):  # -sc: how Hydra's completion asks
        from gradalign_cli.hydra_train import main as train

        return train(arguments[arguments[0] == "train" :])
    parser = argparse.ArgumentParser(
        prog="gradalign",
        description="Continual learning with gradient alignment: train, compare, look.",
    )
    parser.add_argument("--version", action="version", version=f"gradalign {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train tasks in sequence; `gradalign train --help` for more")
    listing = commands.add_parser("list", help="what there is to choose from")
    listing.add_argument("group", nargs="?", choices=GROUPS, help="all when left out")
    explain = commands.add_parser("explain", help="what a method does to a gradient")
    explain.add_argument("method", metavar="METHOD")
    explain.add_argument("--picture", metavar="FILE", help="draw it, to an .svg")
    table = commands.add_parser("reproduce", help="a paper's table: published beside ours")
    table.add_argument("table", metavar="TABLE", help="`gradalign list tables` names them")
    table.add_argument("extra", nargs="*", metavar="OVERRIDE", help="device=, hydra/launcher=, ...")
    table.add_argument("--cells", default="*", metavar="PATTERN", help="such as 'GEM*'")
    table.add_argument("--seeds", type=int, default=5, metavar="N")
    table.add_argument(
        "--budget",
        type=float,
        metavar="MIN",
        help="start no cell that would end later; 0: only show",
    )
    table.add_argument("--quick", action="store_true", help="small runs, which are not judged")
    table.add_argument("--at-once", type=int, default=1, metavar="N", help="cells at a time")
    table.add_argument("--from", nargs="+", default=[], metavar="DIR", help="use these runs too")
    table.add_argument("--out", default="outputs/tables", metavar="DIR")
    tuning = commands.add_parser("tune", help="choose numbers on the first three tasks alone")
    tuning.add_argument("name", metavar="NAME", help="of the experiment file to write")
    tuning.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="with lists to choose of")
    data = commands.add_parser("data", help="the datasets on this machine")
    data.add_argument("--data-dir", help="the data folder (default: $GRADALIGN_DATA, or a cache)")
    actions = data.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("status", help="what is there, and where")
    prepare = actions.add_parser("prepare", help="find, check and keep datasets as NAME.npz")
    prepare.add_argument("names", nargs="+", metavar="NAME")
    chosen = parser.parse_args(arguments)
    from gradalign_cli.errors import UserError

    try:
        if chosen.command == "list":
            from gradalign_cli.listing import show, show_methods

            if chosen.group == "methods":
                show_methods(CONF)
            else:
                show(CONF, [chosen.group] if chosen.group else list(GROUPS))
        elif chosen.command == "reproduce":
            return reproduce(chosen)
        elif chosen.command == "tune":
            from gradalign_cli.tables.tune import tune

            tune(CONF, chosen.name, chosen.overrides)
        elif chosen.command == "explain":
            from gradalign_cli.explain import show as explain_method

            explain_method(CONF, chosen.method, chosen.picture)
        else:
            from gradalign_cli.data.command import prepare_all, show_status

            if chosen.action == "prepare":
                prepare_all(chosen.names, chosen.data_dir)
            else:
                show_status(chosen.data_dir)
    except UserError as error:
        print(f"gradalign: {error}", file=sys.stderr)
        return 2
    return 0


def reproduce(chosen: argparse.Namespace) -> int:
    """Hand a request for a table on."""
    from gradalign_cli.listing import wide
    from gradalign_cli.tables.reproduce import Request, check_extra
    from gradalign_cli.tables.reproduce import reproduce as run

    request = Request(
        chosen.cells,
        chosen.seeds,
        chosen.budget,
        chosen.quick,
        chosen.at_once,
        tuple(Path(folder) for folder in getattr(chosen, "from")),
        check_extra(chosen.extra),
    )
    return run(CONF, chosen.table, request, Path(chosen.out).resolve(), wide())


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    sys.exit(main())
