"""What a user types, as Hydra wants it."""

import re
from collections.abc import Sequence
from pathlib import Path

from gradalign_cli.composition.targets import OPTIONAL_GROUPS, ROOM_OF_GROUP
from gradalign_cli.errors import UserError

OVERRIDE = re.compile(r"(\+{0,2}|~)([^=~+]+)(=.*)?", re.DOTALL)


def hydra_overrides(overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Overrides as Hydra wants them.

    A choice of a group is Hydra's own, where a folder with configs has the group. A value is added
    or replaced, so that a name that is not known is refused by `check_settings`, which knows all of
    them, and not by Hydra.
    """
    groups = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    return [hydra_override(override, groups) for override in overrides]


def override_key(override: str) -> str:
    """What an override is about."""
    return override.lstrip("+~").partition("=")[0]


def hydra_override(override: str, groups: set[str]) -> str:
    """One override as Hydra wants it;  groups: the names of groups that there are."""
    match = OVERRIDE.fullmatch(override)
    if match is None:
        raise UserError(f"an override must be like batch_size=20, found {override!r}")
    sign, key, value = match.groups()
    group = key.partition("@")[0]
    if sign == "~" or value is None or re.match(r"hydra[./@]", key):
        return override
    if key == "objective" and "method" in groups:
        key = group = "method@objective"  # an objective is chosen among the methods
    if group.partition("/")[0] in groups or key == "method@objective":
        check_choice(key, value[1:].strip())
        if value[1:].strip() == "null":
            return f"~{key}"
        # the groups of the defaults list are replaced, others are added
        return f"{'' if group.partition('@')[0] in ROOM_OF_GROUP else '+'}{key}{value}"
    return f"++{key}{value}"


def check_choice(group: str, choice: str) -> None:
    """Raise UserError where several options of a group are chosen at once, or none of one that a
    run must have."""
    name = group.rpartition("@")[2]
    if not re.fullmatch(r"[\w./,-]+", choice) or re.fullmatch(r"[\d.]+", choice):
        raise UserError(f"`{name}` must be one option of `gradalign list {name}`, found {choice}")
    if choice == "null" and name not in OPTIONAL_GROUPS:
        raise UserError(f"`{name}` must be chosen, as `gradalign list {name}` shows, found null")
