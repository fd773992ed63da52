"""The errors that a user's input can cause; each message is one sentence."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input, told in one sentence."""


class DataError(UserError):
    """A dataset that is missing, damaged or not what its name promises."""


def require(is_valid: bool, field: str, domain: str, value: object) -> None:
    """Raise a UserError naming the field, its domain and the value found unless `is_valid`."""
    if not is_valid:
        raise UserError(f"`{field}` must be {domain}, found {value!r}")


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that asks for the name that `name` is most like; empty where none is.

    As in " did you mean `agem`?", with the space in front.
    """
    choices = {choice.lower(): choice for choice in names}
    alike = difflib.get_close_matches(name.lower(), choices, n=1)
    return f" did you mean `{choices[alike[0]]}`?" if alike else ""


def require_name(name: str, names: Iterable[str], field: str, domain: str) -> None:
    """Raise a UserError naming the field, its domain, the name and the one it is most like, unless
    it is one of `names`."""
    names = list(names)
    if name not in names:
        question = nearest(name, names)
        raise UserError(
            f"`{field}` must be {domain}, found {name!r}" + (f":{question}" if question else "")
        )
