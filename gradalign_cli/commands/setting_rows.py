"""The settings of a part as rows of a table: default, type and meaning."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.commands.page import Column
from gradalign_cli.composition.construct import KINDS, declared_types

SETTING_COLUMNS = Column("setting and default"), Column("type"), Column("meaning", wraps=True)
LABELS = ("name", "_target_", "defaults")  # entries of a part's config that are no settings


class SettingRow(NamedTuple):
    """A setting: `GROUP.SETTING=VALUE` as it is typed, the type in words, and what it means."""

    assignment: str
    type: str
    meaning: str


def setting_rows(
    group: str, part_config: DictConfig, comments: Mapping[str, str]
) -> list[SettingRow]:
    """The row of each setting of a part.

    part_config: of the part, composed;  comments: of its yaml, by setting.
    """
    declared = declared_setting_types(str(part_config.get("_target_", "")))
    values = OmegaConf.to_container(part_config, resolve=True)
    assert isinstance(values, dict)
    settings = {str(name): value for name, value in values.items() if name not in LABELS}
    return [
        SettingRow(
            shell_assignment(f"{group}.{name}", value),
            type_text(declared.get(name)),
            comments.get(name, ""),
        )
        for name, value in settings.items()
    ]


def declared_setting_types(target: str) -> dict[str, Any]:
    """The types that a function of ours declares, by the name that a config has for it. None of a
    user's function: a page to read imports no module of others."""
    if not target.startswith("gradalign_cli."):
        return {}
    try:
        return declared_types(get_method(target))
    except (ImportError, ValueError):  # the config of a user may name what there is not
        return {}


def shell_assignment(name: str, value: Any) -> str:
    """A setting with its value, as it is typed in a shell."""
    text = f"{name}={hydra_value_text(value)}"
    return f"'{text}'" if set(text) & set("[]{}$ ,") else text


def hydra_value_text(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{name!s}:{hydra_value_text(each)}" for name, each in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_value_text, value)) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def type_text(declared_type: Any) -> str:
    """A declared type in words; empty where it has none."""
    if get_origin(declared_type) is UnionType:
        kinds = [type_text(kind) for kind in get_args(declared_type)]
        return " or ".join(dict.fromkeys(kinds))  # a list of numbers or of lists is a list
    if isinstance(get_origin(declared_type), type) and issubclass(
        get_origin(declared_type), Sequence
    ):
        return "list"
    words = KINDS | {NoneType: "null"}
    return words.get(declared_type, "").removeprefix("a ")
