"""The arguments of `gradalign train`: Hydra's options, overrides, and folders of configs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydra._internal.utils import get_args_parser

from gradalign_cli.composition.overrides import hydra_overrides
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.unknown_options import near_options
from gradalign_cli.errors import UserError


class TrainArguments(NamedTuple):
    """What a user typed after `gradalign train`.

    hydra_options: by Hydra's own parser;  overrides: as the user typed them;
    primary_config_folder: where the primary config is;  config_dir: that of --config-dir, or None.
    """

    hydra_options: argparse.Namespace
    overrides: list[str]
    primary_config_folder: Path
    config_dir: Path | None

    def hydra_overrides(self) -> list[str]:
        """The overrides as Hydra wants them."""
        folders = [self.primary_config_folder, *([self.config_dir] if self.config_dir else [])]
        return hydra_overrides(self.overrides, folders)


def train_argument_parser() -> argparse.ArgumentParser:
    """Hydra's parser, which raises UserError for a mistake and takes options by their whole names
    alone."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        hint = near_options(message, parser) or "; `gradalign train --help` shows what can be given"
        raise UserError(f"{message}{hint}")

    parser.allow_abbrev = False
    parser.error = refuse  # type: ignore[method-assign]
    return parser


def parse_arguments(arguments: Sequence[str]) -> TrainArguments:
    """The arguments, checked. Folders of configs are relative to the working folder.

    Raises UserError where an option is not known or a folder is none.
    """

    options = train_argument_parser().parse_intermixed_args(arguments)
    if options.experimental_rerun is not None:
        raise UserError("--experimental-rerun reads a pickle, which could run any code")
    shown = [name for name in ("multirun", "run", "cfg", "info") if getattr(options, name)]
    if len(shown) > 1:
        raise UserError(f"--{shown[0]} and --{shown[1]} cannot be combined")
    if (options.package or options.resolve) and not options.cfg:
        raise UserError("--package and --resolve belong to --cfg, found none")
    folders = [Path(text).absolute() for text in (options.config_path, options.config_dir) if text]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} must be a folder with configs, found none")
    primary_config_folder = folders.pop(0) if options.config_path else CONF
    config_dir = folders.pop(0) if options.config_dir else None
    return TrainArguments(options, options.overrides, primary_config_folder, config_dir)
