"""Errors of Hydra and OmegaConf in one sentence each."""

import re

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.errors import UserError, nearest

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


def sentence_of(error: Exception) -> str:
    """What was wrong with the input, without the library's own words where they are known."""
    text = str(error)
    missing = re.match(r"(?:In '.*': )?Could not find '(?P<group>[^']*)/(?P<option>[^']*)'", text)
    if missing:
        options = re.findall(r"^\t(\S.*)$", text.partition("Available options")[2], re.MULTILINE)
        group, option = missing["group"], missing["option"]
        hint = nearest(option, options) or f"; `gradalign list {group}` shows all"
        return f"`{group}` has no option '{option}'{hint}"
    first_line = text.partition("\n")[0]
    several = re.match(r"Ambiguous value for argument '\+*(?P<override>.*)'$", first_line)
    if several:
        return f"`{several['override']}` has several values: -m runs each, [...] is a list of them"
    if re.match(
        r"LexerNoViableAlt|mismatched|no viable|extraneous|missing|Error parsing|token", text
    ):
        reason = re.sub(r"^Error parsing override '(.*)'\n", r"'\1': ", text).partition(
            "See https"
        )[0]
        text = f"an override cannot be read: {reason}"
    cause = error.__cause__
    if cause is not None and text.startswith("Error merging override"):
        text = f"{text} ({cause})"
    lines = [line for line in text.splitlines() if not re.match(r"\s*(full_key|object_type)", line)]
    return " ".join(" ".join(lines).split())


def as_user_error(error: Exception) -> UserError:
    """The error as one of a user's input."""
    return UserError(sentence_of(error))
