"""The errors that a user's input can cause, each message one sentence; and the request to end."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from os import PathLike, fspath
from typing import Any, get_args

LONGEST_VALUE = 200  # letters of a value that are shown
LONGEST_ERROR = 300  # letters of an error of others


class UserError(Exception):
    """A mistake in the input, told in one sentence."""


class DataError(UserError):
    """A dataset that is missing, damaged or not what its name promises."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). All that ends in order at Ctrl-C does so here too."""


def require(is_valid: bool, field: str, domain: str, value: object) -> None:
    """Raise a UserError naming the field, its domain and the value found unless `is_valid`."""
    if not is_valid:
        text = repr(value)
        text = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
        raise UserError(f"`{field}` must be {domain}, found {text}")


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def require_choice(choices: Any, field: str, value: object) -> None:
    """Raise a UserError unless the value is one of the `choices`, a `Literal` type."""
    options = get_args(choices)
    require(value in options, field, f"one of {', '.join(options)}", value)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about a misspelt name: "; did you mean A, B or C?" of those names that
    are most like it, whatever the case of letters; empty where none is."""
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    alike = get_close_matches(name.lower(), by_lower_case, 3)
    *first, last = [f"`{by_lower_case[match]}`" for match in alike] or [""]
    choice = f"{', '.join(first)} or {last}" if first else last
    return f"; did you mean {choice}?" if alike else ""


def require_name(name: str, names: Iterable[str], field: str, domain: str) -> None:
    """Raise a UserError naming the field, its domain, the name and those it is most like, unless it
    is one of `names`."""
    names = list(names)
    if name not in names:
        raise UserError(f"`{field}` must be {domain}, found {name!r}{did_you_mean(name, names)}")


def error_text(error: BaseException) -> str:
    """What an error of the user's own code or file says, in one line, or else its name."""
    if isinstance(error, SystemExit):
        return f"it ends the program by sys.exit({error.code!r})"
    return " ".join(str(error).split())[:LONGEST_ERROR] or type(error).__name__


def os_error_sentence(error: OSError, path: str | PathLike[str]) -> str:
    """What the system says went wrong, after the path that it is about."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{fspath(path)}: {reason}"


@contextmanager
def os_errors_as_sentences(action: str, path: str | PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into a UserError: `cannot ACTION PATH: REASON`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {action} {os_error_sentence(error, path)}") from error
