"""A folder as an override that Hydra reads, whatever its path has in it."""

import re
from pathlib import Path

PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")


def quoted(text: str) -> str:
    """The text as a quoted value of an override, in which nothing is replaced.

    A backslash is itself in such a value, unless backslashes stand before a quote, which ends the
    value, or before ${, which begins a reference: there each is doubled.
    """
    escaped = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", text)
    escaped = re.sub(
        r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", r"\'"), escaped
    )
    return f"'{escaped}'"


def folder_override(setting: str, folder: Path) -> str:
    """The override that sets a setting to a folder, in quotes where its path needs them."""
    path = str(folder)
    return f"{setting}={path if PLAIN_PATH.fullmatch(path) else quoted(path)}"
