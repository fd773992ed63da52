"""The errors that a user's input can cause, each message one sentence; and the request to end."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in the input, told in one sentence."""


class DataError(UserError):
    """A dataset that is missing, damaged or not what its name promises."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). All that ends in order at Ctrl-C does so here too."""


def require(is_valid: bool, field: str, domain: str, value: object) -> None:
    """Raise a UserError naming the field, its domain and the value found unless `is_valid`."""
    if not is_valid:
        raise UserError(f"`{field}` must be {domain}, found {value!r}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean A, B or C?` of those names that are most like a misspelt one, whatever their
    case; empty where none is."""
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    nearest = get_close_matches(name.lower(), by_lower_case, 3)
    *first, last = [f"`{by_lower_case[match]}`" for match in nearest] or [""]
    choice = f"{', '.join(first)} or {last}" if first else last
    return f"; did you mean {choice}?" if nearest else ""
