"""The errors that a user's input can cause; each message is one sentence."""

from typing import Any, get_args


class UserError(Exception):
    """A mistake in the input, told in one sentence."""


class DataError(UserError):
    """A dataset that is missing, damaged or not what its name promises."""


def require(is_valid: bool, field: str, domain: str, value: object) -> None:
    """Raise a UserError naming the field, its domain and the value found unless `is_valid`."""
    if not is_valid:
        raise UserError(f"`{field}` must be {domain}, found {value!r}")


def require_choice(choices: Any, field: str, value: object) -> None:
    """Raise a UserError unless the value is one of the `choices`, a `Literal` type."""
    options = get_args(choices)
    require(value in options, field, f"one of {', '.join(options)}", value)
