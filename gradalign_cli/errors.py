"""The errors that a user's input can cause; each message is one sentence."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from os import PathLike, fspath
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


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean `x`?` with the name most like it, empty where none is."""
    matches = get_close_matches(name, list(names), 1)
    return f"; did you mean `{matches[0]}`?" if matches else ""


def os_error_sentence(error: OSError, path: str | PathLike[str] | None = None) -> str:
    """What the system says went wrong, after the path it is about: that of the error, or `path`."""
    place = error.filename if error.filename is not None and path is None else path
    reason = error.strerror or str(error) or type(error).__name__
    return reason if place is None else f"{fspath(place)}: {reason}"


@contextmanager
def os_errors_as_sentences(action: str, path: str | PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into a UserError: `cannot ACTION PATH: REASON`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {action} {os_error_sentence(error, path)}") from error
