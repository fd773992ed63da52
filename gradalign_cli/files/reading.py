"""Files from strangers: regular files alone, and no more bytes than a limit."""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from gradalign_cli.errors import UserError, os_errors_as_sentences

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading. A pipe, which could wait forever, and a device are not opened.

    Raises UserError, naming the path, where it is no regular file or cannot be read.
    """
    with os_errors_as_sentences("read", path):
        check_regular(path, os.stat(path))
        # should a pipe take the file's place now, opening it does not wait
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        check_regular(path, os.fstat(file.fileno()))
    except UserError:
        file.close()
        raise
    return file


def check_regular(path: Path, status: os.stat_result) -> None:
    """Raise UserError unless the status of the path is that of a regular file."""
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise UserError(f"{path} must be a regular file, found {KINDS.get(kind, 'something else')}")


def read_bounded(path: Path, byte_limit: int) -> bytes:
    """The content of a regular file of at most `byte_limit` bytes; UserError for any other."""
    with open_regular(path) as file, os_errors_as_sentences("read", path):
        content = file.read(byte_limit + 1)
    if len(content) > byte_limit:
        raise UserError(f"{path} must have at most {byte_limit} bytes, found more")
    return content


def read_json(path: Path, byte_limit: int) -> Any:
    """The content of a JSON file of at most `byte_limit` bytes; UserError where it is not valid."""
    content = read_bounded(path, byte_limit)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        place = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path} must be valid JSON{place}") from error
