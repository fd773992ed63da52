"""The lock of a folder: one process at a time, and the system frees it when that process ends."""

import errno
import fcntl
import os
import re
import socket
import stat
import time
import warnings
import weakref
from contextlib import suppress
from pathlib import Path

from gradalign_cli.errors import UserError, os_errors_as_sentences

LOCK_NAME = "run.lock"
SECONDS_OF_A_LOOK = 0.02  # far more than `lock_owner` has a lock
OWNER_BYTES = 300  # more than a process id, a host's name and a date need
OWNER = re.compile(rb"process \d+ on .+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that has none


class FolderLock:
    """A lock on a folder, from its creation to `release`, or to the end of the process.

    `run.lock` in the folder says whose it is, and is removed with the lock. If the process is
    killed, the file stays, but the lock does not.
    """

    def __init__(self, folder: Path) -> None:
        """Lock the folder. Raises UserError, naming the process that has the lock, where it is
        taken."""
        path = folder / LOCK_NAME
        with os_errors_as_sentences("lock", path):
            descriptor = lock_file(path)
            owner = f"process {os.getpid()} on {socket.gethostname()} since "
            owner += time.strftime("%Y-%m-%d %H:%M:%S")
            self.release = weakref.finalize(self, unlock, descriptor, path, os.getpid())
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{owner}\n".encode())
            except OSError:
                self.release()
                raise


def lock_file(path: Path) -> int:
    """A descriptor of the file at this path, with the lock on it; UserError where another has it,
    or where the file is something else.

    The former owner may remove the file between our opening and our locking it. Then we would lock
    a file that nobody else sees, so we look whether it still is the one at the path.
    """
    while True:
        if path.is_symlink():
            path.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{path} must be a regular file")
            text = os.pread(descriptor, OWNER_BYTES, 0)
            if text and not OWNER.fullmatch(text):  # empty: it was killed before it wrote
                raise UserError(f"{path} is no lock file of a run, which needs the name; move it")
            take_lock(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def take_lock(descriptor: int, path: Path) -> None:
    """Lock an open file; UserError where another has the lock, a warning where there are none."""
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # one who only looks, as `lock_owner`, has it for an instant
            time.sleep(SECONDS_OF_A_LOOK)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path.parent} is in use by {owner_text(descriptor)}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"the file system of {path.parent} has no locks ({error.strerror}): see to it that no "
            "other run writes there",
            stacklevel=1,
        )


def owner_text(descriptor: int) -> str:
    """Whose an open lock file is, as it says itself."""
    text = os.pread(descriptor, OWNER_BYTES, 0).decode(errors="replace").strip()
    return "".join(letter for letter in text if letter.isprintable()) or "another process"


def lock_owner(folder: Path) -> str | None:
    """Who has the lock of a folder, None where nobody has it or the file system has no locks.

    To look takes the lock for an instant, if nobody has it.
    """
    try:
        descriptor = os.open(
            folder / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return owner_text(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def unlock(descriptor: int, path: Path, process_id: int) -> None:
    """Remove the file and free the lock; a child that inherited them leaves both alone."""
    if os.getpid() == process_id:
        with suppress(OSError):  # a folder that is gone has no file to remove
            if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                path.unlink()
        os.close(descriptor)
