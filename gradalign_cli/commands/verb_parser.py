"""The parser of a verb's arguments: a mistake is one sentence, and no option is abbreviated."""

import argparse
from typing import Any, NoReturn

from gradalign_cli import __version__
from gradalign_cli.composition.unknown_options import near_options
from gradalign_cli.errors import UserError


class VerbParser(argparse.ArgumentParser):
    """An ArgumentParser that has `--version`, takes options by their whole names alone and raises
    UserError for a mistake."""

    def __init__(self, **parser_options: Any) -> None:
        super().__init__(**({"allow_abbrev": False} | parser_options))
        version = f"gradalign {__version__}"
        self.add_argument("--version", action="version", version=version, help="print it")

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As in ArgumentParser. An argument of any number of words counts as required there where
        it has no default, and its message asked for overrides."""
        if options.get("nargs") == "*":
            options.setdefault("default", [])
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as a UserError."""
        hint = near_options(message, self) or f"; `{self.prog} --help` tells more"
        raise UserError(f"{message}{hint}")
