"""The command line: `gradalign VERB ...`. Each verb is a module of `gradalign_cli.commands`."""

import argparse
import os
import sys
from importlib import import_module

from gradalign_cli import __version__
from gradalign_cli.errors import UserError

VERBS = {
    "train": "train on tasks in sequence and write the results to a folder",
    "reproduce": "run what a paper's table needs; print the published numbers beside ours",
    "tune": "choose numbers on the first three tasks alone",
    "list": "what there is to choose from",
    "explain": "what a method does to a gradient",
    "data": "which datasets are on this machine; get those that are not",
}


def let_waiting_threads_sleep() -> None:
    """Let threads that wait for others give up the core soon, unless the user says how they wait.

    PyTorch's threads otherwise spin for milliseconds, and on a busy machine those that they wait
    for get no core; docs/performance.md has figures. OpenMP reads this when PyTorch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, or 2 where the input was at fault."""
    let_waiting_threads_sleep()
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["-sc"]:  # how Hydra's completion asks
        arguments = ["train", *arguments]
    verb, *rest = arguments or ["--help"]
    if verb not in VERBS:
        help_parser().parse_args([verb])
    try:
        code: int = import_module(f"gradalign_cli.commands.{verb}").main(rest)
    except UserError as error:
        print(f"gradalign: {error}", file=sys.stderr)
        return 2
    return code


def help_parser() -> argparse.ArgumentParser:
    """What answers `--help` and `--version`, and refuses a verb that there is not."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {verb:<{width}}{sentence}" for verb, sentence in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="gradalign",
        description="Continual learning with gradient alignment: train, compare, look.",
        epilog=f"verbs:\n{verbs}\n\n`gradalign VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gradalign {__version__}")
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help="what to do, see below")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    sys.exit(main())
