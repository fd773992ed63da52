"""The command line: `gradalign train`, `list`, `explain`, `data`."""

import argparse
import os
import sys
from pathlib import Path

from gradalign_cli import __version__

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
GROUPS = ("methods", "buffers", "benchmarks", "models", "optimizers", "experiments")


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
    explain.add_argument("--picture", metavar="FILE", help="draw it, to a .png or .svg")
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


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    sys.exit(main())
