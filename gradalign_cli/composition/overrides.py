"""What a user types, as Hydra wants it."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from gradalign_cli.composition.targets import (
    NAMED_GROUPS,
    OPTIONAL_GROUPS,
    ROOM_OF_GROUP,
    list_command,
)
from gradalign_cli.errors import UserError

OVERRIDE = re.compile(r"(\+{0,2}|~)([^=~+]+)(=.*)?", re.DOTALL)
LONGEST_KEY = 200  # characters; longer ones are no names of files


def hydra_overrides(overrides: Sequence[str], config_folders: Sequence[Path]) -> list[str]:
    """Overrides as Hydra wants them.

    A choice of a group is Hydra's own, where a folder with configs has the group. A value is added
    or replaced, so that a name that is not known is refused by `check_settings`, which knows all of
    them, and not by Hydra.
    """
    groups = {path.name for folder in config_folders for path in folder.iterdir() if path.is_dir()}
    changed = [hydra_override(override, groups) for override in overrides]
    parser = OverridesParser.create()
    for typed, override in zip(overrides, changed, strict=True):
        try:
            parser.parse_override(override)
        except (HydraException, ValueError, RecursionError) as error:
            raise UserError(
                f"the override {shortened(typed)} cannot be read: it must be like batch_size=20, "
                "with quotes inside the shell's where a value needs them, as in name='\"a b\"'"
            ) from error
    return changed


def shortened(text: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}...")


def override_key(override: str) -> str:
    """What an override is about."""
    return override.lstrip("+~").partition("=")[0]


def hydra_override(override: str, groups: set[str]) -> str:
    """One override as Hydra wants it;  groups: the names of groups that there are."""
    match = OVERRIDE.fullmatch(override)
    if match is None or len(match[2]) > LONGEST_KEY:
        raise UserError(f"an override must be like batch_size=20, found {shortened(override)}")
    sign, key, value = match.groups()
    if key == "objective" and "method" in groups:
        key = "method@objective"  # an objective is chosen among the methods
    group, _, package = key.partition("@")
    if key in [f"{named}.name" for named in NAMED_GROUPS]:
        raise UserError(f"`{key}` is what the yaml of a method calls it, and cannot be set")
    if sign == "~":
        check_removal(key, package or group)
        return f"~{key}{value or ''}"
    if value is None or re.match(r"hydra[./@]", key):
        return override
    if key == "hydra":
        raise UserError("`hydra` is set entry by entry, as in hydra.run.dir=FOLDER")
    if package and key != "method@objective":
        raise UserError(
            f"`{key}` is not a group; `objective` alone is chosen from another's options"
        )
    if group in ROOM_OF_GROUP and group not in groups:
        raise UserError(
            f"`{group}` cannot be chosen anew in a config without groups, such as that of a run: "
            f"repeat the run's command, of which .hydra/overrides.yaml tells, with {key}{value}"
        )
    if group.partition("/")[0] in groups:
        check_choice_is_name(package or group, value[1:].strip())
        if value[1:].strip() == "null":
            return f"~{key}"
        # the groups of the defaults list are replaced, others are added
        return f"{'' if group in ROOM_OF_GROUP else '+'}{key}{value}"
    return f"++{key}{value}"


def check_removal(typed_key: str, removed_entry: str) -> None:
    """Raise UserError where a run needs what `~` would take away."""
    is_optional = removed_entry in OPTIONAL_GROUPS or "." in removed_entry
    if removed_entry.startswith("hydra") or not is_optional:
        optional = ", ".join(OPTIONAL_GROUPS)
        raise UserError(
            f"`{typed_key}` must stay: ~ takes away one of {optional}, or an entry in a group"
        )


def check_choice_is_name(group: str, choice: str) -> None:
    """Raise UserError where several options of a group are chosen at once, or none of one that a
    run must have.

    group: also `objective`.
    """
    is_name = re.fullmatch(r"[\w./,-]+", choice) and not re.fullmatch(r"[\d.]+", choice)
    if not is_name or ".." in choice:
        raise UserError(
            f"`{group}` must be one option of `{list_command(group)}`, found {choice!r}"
        )
    if choice == "null" and group not in OPTIONAL_GROUPS:
        raise UserError(f"`{group}` must be chosen, as `{list_command(group)}` shows, found null")
    if "," in choice and "null" in choice.split(","):
        raise UserError(
            f"`{group}` must not be null in a sweep: run that without -m, found {choice}"
        )
