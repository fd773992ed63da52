"""Call the function that a config names, after checking its values."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.targets import NAMED_GROUPS, RESULT_OF_GROUP, target_function
from gradalign_cli.errors import UserError, did_you_mean, error_text, require, require_choice

LARGEST_WHOLE_NUMBER = 2**31 - 1  # counts of examples, tasks, passes
LARGEST_NUMBER, LEAST_NUMBER = 3.4e38, 1.4e-45  # of float32, above 0
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def call_target(group: str, group_config: DictConfig, **computed_arguments: Any) -> Any:
    """Call the function that a group's config names by `_target_`, with the config's other entries
    and the `computed_arguments`.

    Raises UserError where an entry is missing, unknown, or not of the type the function declares.
    """
    function = target_function(group, group_config)
    arguments = checked_arguments(group, group_config, computed_arguments)
    wanted = RESULT_OF_GROUP[group]
    try:
        part = function(**arguments)
    except SystemExit as error:  # which would end the run as if it had succeeded
        raise UserError(
            f"`{group}._target_` must be what returns a {wanted}, found that {error_text(error)}"
        ) from error
    require(type(part).__name__ == wanted, f"{group}._target_", f"what returns a {wanted}", part)
    for field, kind in get_type_hints(type(part)).items():
        if get_origin(kind) is Literal:
            require_choice(kind, f"{wanted}.{field}", getattr(part, field))
    return part


def checked_arguments(
    group: str, group_config: DictConfig, computed_arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of the function that a group's config names, see `call_target`, with its
    errors."""
    function = target_function(group, group_config)
    entries = OmegaConf.to_container(group_config, resolve=True)
    assert isinstance(entries, dict)
    arguments = {**{str(name): value for name, value in entries.items()}, **computed_arguments}
    labels = ["_target_", "defaults"]  # the latter is Hydra's, in a yaml read as it lies
    for label in [*labels, "name"] if group in NAMED_GROUPS else labels:
        arguments.pop(label, None)
    declared = declared_types(function)
    for name in arguments.keys() - declared.keys():
        setting_names = [entry for entry in declared if entry not in computed_arguments]
        all_settings = f"; its settings are {', '.join(setting_names) or 'none'}"
        raise UserError(
            f"`{group}.{name}` is not a setting of {function.__name__}"
            f"{did_you_mean(name, setting_names) or all_settings}"
        )
    for name, value in arguments.items():
        if name not in computed_arguments:
            check_type(f"{group}.{name}", declared[name], value)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in arguments:
            raise UserError(f"`{group}.{parameter.name}` must be given, found nothing")
    return arguments


def declared_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotated parameters of a function and their types."""
    return {name: kind for name, kind in get_type_hints(function).items() if name != "return"}


def check_type(field: str, declared_type: Any, value: Any) -> None:
    """Raise UserError unless a plain value is of its declared type."""
    if get_origin(declared_type) is Literal:
        require_choice(declared_type, field, value)
    optional = get_origin(declared_type) is UnionType
    kinds = get_args(declared_type) if optional else (declared_type,)
    if any(get_origin(kind) in (list, Sequence) for kind in kinds):
        check_list_type(field, kinds, value)
        return
    plain = [kind for kind in kinds if kind in KINDS]  # lists and objects check themselves
    if not plain or (value is None and type(None) in kinds):
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    fits = type(value) in plain or (float in plain and number)
    domain = KINDS[plain[0]] + (" or null" if type(None) in kinds else "")
    finite = not isinstance(value, float) or math.isfinite(value)
    require(fits and finite, field, domain, value)
    limit = LARGEST_WHOLE_NUMBER if number else LARGEST_NUMBER
    small = isinstance(value, str | bool) or -limit <= value <= limit
    require(small, field, f"a number of at most {limit}", value)
    is_kept = not isinstance(value, float) or not value or abs(value) >= LEAST_NUMBER
    require(is_kept, field, f"a number that float32 tells from 0 (at least {LEAST_NUMBER})", value)


def check_list_type(field: str, alternative_types: tuple[Any, ...], value: Any) -> None:
    """Raise UserError unless a value is of one of these types, most of them lists.

    The entries of a list are numbers or texts, or lists of them.
    """
    if value is None and type(None) in alternative_types:
        return
    require(isinstance(value, list), field, "a list", value)
    entry_kinds = [get_args(kind)[0] for kind in alternative_types if get_args(kind)]
    plain = next((kind for kind in entry_kinds if kind in KINDS), None)
    for entry in value:
        if isinstance(entry, list) and len(entry_kinds) > 1:
            check_list_type(field, tuple(entry_kinds), entry)
        elif plain:
            check_type(field, plain, entry)
