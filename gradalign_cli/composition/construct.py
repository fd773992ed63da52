"""Call the function that a config names, after checking its values."""

import inspect
import math
from collections.abc import Callable
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.errors import UserError, require

KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def call_target(group: str, config: DictConfig, **computed_arguments: Any) -> Any:
    """Call the function that a group's config names by `_target_`, with the config's other entries
    and the `computed_arguments`.

    Raises UserError where an entry is missing, unknown, or not of the type the function declares.
    """
    if "_target_" not in config:
        raise UserError(f"`{group}._target_` must name a function, found none")
    try:
        function = get_method(config["_target_"])
    except Exception as error:  # Hydra raises what the import of the user's own module raised
        raise UserError(f"`{group}._target_` cannot be imported: {error}") from error
    entries = OmegaConf.to_container(config, resolve=True)
    assert isinstance(entries, dict)
    arguments = {str(name): value for name, value in entries.items()} | computed_arguments
    for label in ("_target_", "name", "defaults"):  # the last is Hydra's, in a yaml read as it lies
        arguments.pop(label, None)
    declared = declared_types(function)
    for name in arguments.keys() - declared.keys():
        raise UserError(f"`{group}.{name}` is not known; known are {', '.join(declared)}")
    for name, value in arguments.items():
        if name not in computed_arguments:
            check_type(f"{group}.{name}", declared[name], value)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in arguments:
            raise UserError(f"`{group}.{parameter.name}` must be given, found nothing")
    return function(**arguments)


def declared_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotated parameters of a function and their types."""
    return {name: kind for name, kind in get_type_hints(function).items() if name != "return"}


def check_type(field: str, declared: Any, value: Any) -> None:
    """Raise UserError unless a plain value is of its declared type."""
    optional = get_origin(declared) is UnionType
    kinds = get_args(declared) if optional else (declared,)
    plain = [kind for kind in kinds if kind in KINDS]  # lists and objects check themselves
    if not plain or (value is None and type(None) in kinds):
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    fits = type(value) in plain or (float in plain and number)
    domain = KINDS[plain[0]] + (" or null" if type(None) in kinds else "")
    require(fits and not (isinstance(value, float) and math.isnan(value)), field, domain, value)
