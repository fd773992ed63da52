"""Files that are written whole or not at all, and never through a symbolic link."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gradalign_cli.errors import os_errors_as_sentences

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def partial_path(path: Path) -> Path:
    """A name beside `path` that no other process uses: NAME.RANDOM.partial."""
    return path.with_name(f"{path.name}.{os.urandom(4).hex()}.partial")


@contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """A new file under another name, which takes the place of `path` when the block ends.

    If the block fails, it is removed and `path` stays as it is. A link at `path` is replaced, not
    followed.

    Raises UserError, naming the path, where the system cannot write.
    """
    partial = partial_path(path)
    with os_errors_as_sentences("write", path):
        descriptor = os.open(partial, NEW_FILE, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text or bytes, so that the file is never half written; UserError where that is not
    possible."""
    with replacement(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; returns those that were missing, the
    lowest first. Where one cannot be made, the others are removed again and a UserError says why.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    with os_errors_as_sentences("make the folder", folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            remove_empty_folders(missing)
            raise
    return missing


def remove_empty_folders(folders_deepest_first: list[Path]) -> None:
    """Remove those of the folders that are empty, one within another before it."""
    for folder in folders_deepest_first:
        with suppress(OSError):
            folder.rmdir()
