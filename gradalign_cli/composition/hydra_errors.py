"""Errors of Hydra and OmegaConf in one sentence each."""

import re

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.composition.targets import ROOM_OF_GROUP
from gradalign_cli.errors import UserError, did_you_mean

PLACE = re.compile(r"\s*(full_key|object_type|reference_type)[:=]")
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


def sentence_of(error: Exception) -> str:
    """What was wrong with the input, without the library's own words where they are known."""
    text = str(error)
    first_line = text.partition("\n")[0]
    option = re.match(r"(?:In '.*': )?Could not find '([^']*)/([^']*)'", text)
    if option:
        available = text.partition("Available options")[2].partition("Config search path")[0]
        return unknown_option_sentence(
            option[1], option[2], re.findall(r"^\t(\S.*)$", available, re.MULTILINE)
        )
    if several := re.match(r"Ambiguous value for argument '\+*(.*)'$", first_line):
        return f"`{several[1]}` has several values: -m runs each, [...] is a list of them"
    if primary := re.match(r"Cannot find primary config '([^']*)'", text):
        return (
            "`--config-name` must be a config in the folder of --config-path, which to repeat a "
            f"run is the run's own folder, found {primary[1]!r}"
        )
    if key := re.match(r"Could not override '([^']*)'", text):
        return f"`{key[1]}` is not a setting of Hydra"
    cause = error.__cause__
    if cause is not None and (merging := re.match(r"Error merging override \+*(.*)", first_line)):
        return f"`{merging[1]}` cannot be set: {message_without_location(cause)}"
    key_path = getattr(error, "full_key", None)
    return (
        f"`{key_path}`: {message_without_location(error)}"
        if key_path
        else message_without_location(error)
    )


def message_without_location(error: BaseException) -> str:
    """An error's text without where it was raised, which OmegaConf adds in further lines."""
    lines = [line for line in str(error).splitlines() if not PLACE.match(line)]
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", " ".join(lines))
    return " ".join(text.split())


def unknown_option_sentence(group: str, option: str, available_options: list[str]) -> str:
    """That a group has no such option, and which one may be meant."""
    advice = (
        f"; `gradalign list {group}` shows all" if group in (*ROOM_OF_GROUP, "experiment") else ""
    )
    if not advice and available_options:
        names = ", ".join(available_options)
        advice = f"; it has {names}, and others where their plugin is installed"
    hint = did_you_mean(option, available_options) or advice
    own_folder_hint = " (`--config-dir FOLDER` adds your own)" if group in ROOM_OF_GROUP else ""
    return f"`{group}` has no option {option!r}{hint}{own_folder_hint}"


def as_user_error(error: Exception) -> UserError:
    """The error as one of a user's input."""
    return UserError(sentence_of(error))
