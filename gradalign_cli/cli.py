"""The command line: `gradalign VERB ...`. Each verb is a module of `gradalign_cli.commands`."""

import argparse
import os
import sys
import time
import warnings
from importlib import import_module

from gradalign_cli.commands.exit import report
from gradalign_cli.commands.signals import exit_on_stop, raise_on_stop
from gradalign_cli.commands.standard_streams import prepare_standard_streams
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.commands.verbs import VERBS
from gradalign_cli.errors import UserError, did_you_mean

LOOKS, SECONDS_BETWEEN_LOOKS = 5, 0.01


def let_waiting_threads_sleep() -> None:
    """Where other processes compute now, let threads that wait for others give up the core soon,
    unless the user says how they wait.

    PyTorch's threads otherwise spin for milliseconds, and on a busy machine those that they wait
    for get no core; on a quiet one spinning is twice as fast. docs/performance.md has figures.
    OpenMP reads this when PyTorch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ and is_busy():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def is_busy() -> bool:
    """Whether others compute on this machine, in most of a few looks; False where the system does
    not tell."""
    looks = []
    try:
        for _ in range(LOOKS):
            looks.append(running_others())
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except (OSError, ValueError, IndexError):
        return False
    return sorted(looks)[LOOKS // 2] > 0


def running_others() -> int:
    """How many threads beside this one the system runs at the moment, by Linux's /proc/loadavg."""
    with open("/proc/loadavg") as file:
        return int(file.read().split()[3].partition("/")[0]) - 1


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code, see commands/exit.py.

    argv: the arguments; None: those of this process, whose signals and streams are then prepared.
    """
    is_command_line = argv is None
    let_waiting_threads_sleep()
    if is_command_line:
        warnings.formatwarning = warning_line
        exit_on_stop()
        prepare_standard_streams()
    try:
        try:
            return run_verb(sys.argv[1:] if argv is None else argv, is_command_line)
        finally:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return report(error)


def warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning as it is printed: its sentence, without the line of code that gave it."""
    return f"warning: {message}\n"


def run_verb(arguments: list[str], is_command_line: bool) -> int:
    """Run the verb that the arguments begin with; returns the exit code.

    is_command_line: whether the process was started for this, and not `main` called from Python.
    """
    if arguments[:1] == ["-sc"]:  # how Hydra's own completion asks
        arguments = ["train", *arguments]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    verb, *rest = arguments or ["--help"]
    if verb not in VERBS:
        help_parser().parse_args([verb])
        hint = did_you_mean(verb, VERBS) or f"; there are {', '.join(VERBS)}"
        raise UserError(f"there is no verb {verb!r}{hint}")
    if "--version" in rest:
        help_parser().parse_args(["--version"])
    command = import_module(f"gradalign_cli.commands.{verb}")
    if is_command_line:
        raise_on_stop()
    code: int = command.main(rest)
    return code


def help_parser() -> argparse.ArgumentParser:
    """What answers `--help` and `--version`."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {verb:<{width}}{sentence}" for verb, sentence in VERBS.items())
    parser = VerbParser(
        prog="gradalign",
        description="Continual learning with gradient alignment: train, compare, look.",
        epilog=f"verbs:\n{verbs}\n\n`gradalign VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", help="what to do, see below")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    sys.exit(main())
