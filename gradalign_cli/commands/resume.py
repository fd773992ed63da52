"""`gradalign resume RUN_DIR`: go on with an unfinished run, as if nothing had happened."""

import shlex
import warnings
from pathlib import Path

from gradalign_cli.commands import train
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.errors import UserError
from gradalign_cli.files.checkpoint_files import checkpoint_files
from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.results.sweep_folder import is_finished
from gradalign_cli.training.checkpoints import newest_saved_run

CONFIG_NAME = "config"


def main(arguments: list[str]) -> int:
    """Go on with one run; returns the exit code."""
    options = argument_parser().parse_intermixed_args(arguments)
    folder = Path(options.RUN_DIR).absolute()
    for override in options.OVERRIDE:
        name = override_key(override)
        if name in ("resume", "overwrite") or name.startswith("hydra"):
            raise UserError(f"`{name}` is set by resume itself: the run goes on in its own folder")
    check_resumable(folder)
    plugins = ["--config-dir", options.config_dir] if options.config_dir else []
    config = ["--config-path", str(folder), "--config-name", CONFIG_NAME]
    place = [folder_override("hydra.run.dir", folder), "++resume=auto"]
    return train.main([*config, *plugins, *place, *options.OVERRIDE])


def check_resumable(run_folder: Path) -> None:
    """Raise UserError unless the folder holds an unfinished run with a checkpoint to go on from."""
    if not run_folder.is_dir():
        raise UserError(
            f"`RUN_DIR` must be the folder of a run, found no folder {str(run_folder)!r}"
        )
    if not (run_folder / f"{CONFIG_NAME}.yaml").is_file():
        raise UserError(
            f"`RUN_DIR` must be the folder of a run, found no config.yaml in {run_folder}"
        )
    if is_finished(run_folder):
        raise UserError(
            "`RUN_DIR` must be the folder of an unfinished run, "
            f"found a finished one in {run_folder}"
        )
    path = shlex.quote(str(run_folder))
    again = f"`gradalign train --config-path {path} --config-name config` starts it anew"
    if not checkpoint_files(run_folder):
        raise UserError(f"{run_folder} has no checkpoint to go on from; {again}")
    with warnings.catch_warnings(action="ignore"):  # training says which are damaged
        is_damaged = newest_saved_run(run_folder) is None
    if is_damaged:
        raise UserError(f"{run_folder} has no checkpoint that is not damaged; {again}")


def argument_parser() -> VerbParser:
    """The parser of the command's arguments."""
    parser = VerbParser(
        prog="gradalign resume",
        description="Go on with an unfinished run, bit for bit as if nothing had happened.",
    )
    parser.add_argument("RUN_DIR", help="the run's folder")
    parser.add_argument(
        "OVERRIDE", nargs="*", help="such as plugins=[mine], data_dir=, or threads= as it began"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="where the run's plugins are")
    return parser
