"""One process at a time has a folder, and a killed one has it no longer."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import LOCK_NAME, FolderLock, lock_owner

HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from gradalign_cli.files.locking import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
)


def test_a_second_process_is_told_who_has_the_folder_until_that_one_is_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "locked\n"
        owner = rf"in use by process {process.pid} on .+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
        with pytest.raises(UserError, match=owner):
            FolderLock(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / LOCK_NAME).exists()
    FolderLock(tmp_path).release()
    assert os.listdir(tmp_path) == []


def test_a_lock_ends_with_what_has_it(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        FolderLock(tmp_path)
    del lock
    assert os.listdir(tmp_path) == []


def test_a_child_leaves_the_lock_of_its_parent(tmp_path):
    lock = FolderLock(tmp_path)
    child = os.fork()
    if not child:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(UserError, match="in use"):
        FolderLock(tmp_path)
    lock.release()


def test_a_lock_file_that_was_removed_while_it_was_opened_is_not_taken(tmp_path, monkeypatch):
    """The former owner removes it between our opening and our locking it."""
    from gradalign_cli.files import locking

    take_lock, removed = locking.take_lock, []

    def late(descriptor, path):
        if not removed:
            removed.append(path.unlink())
        take_lock(descriptor, path)

    monkeypatch.setattr(locking, "take_lock", late)
    lock = FolderLock(tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="in use"):
        FolderLock(tmp_path)
    lock.release()


def test_a_link_in_the_place_of_the_lock_is_replaced_and_a_pipe_refused(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "target")
    FolderLock(tmp_path).release()
    assert (tmp_path / "target").read_text() == "mine"
    os.mkfifo(tmp_path / LOCK_NAME)
    with pytest.raises(UserError, match=r"run\.lock must be a regular file"):
        FolderLock(tmp_path)


def test_a_file_of_the_same_name_that_is_no_lock_is_left_alone(tmp_path):
    for text in ("my notes\n", "process 12 of mine\n"):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(UserError, match=r"run\.lock is no lock file of a run"):
            FolderLock(tmp_path)
        assert (tmp_path / LOCK_NAME).read_text() == text


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="has no locks"):
        FolderLock(tmp_path).release()


def test_one_who_looks_is_told_the_owner_and_takes_nothing(tmp_path):
    assert lock_owner(tmp_path) is None
    lock = FolderLock(tmp_path)
    assert f"process {os.getpid()} on" in lock_owner(tmp_path)
    lock.release()
    (tmp_path / LOCK_NAME).write_text("process 1 on here since 2026-01-01 00:00:00\n")
    assert lock_owner(tmp_path) is None
    FolderLock(tmp_path).release()


def test_one_who_looks_at_the_moment_keeps_nobody_from_the_lock(tmp_path, monkeypatch):
    (tmp_path / LOCK_NAME).touch()
    look = os.open(tmp_path / LOCK_NAME, os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: os.close(look))
    FolderLock(tmp_path).release()
