"""A file is whole or as it was, and what a link points to stays as it was."""

import os
from pathlib import Path

import pytest

from gradalign_cli.errors import UserError
from gradalign_cli.files.writing import make_folder, write_atomically


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_with_the_path_and_the_former_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_atomically(path, "before")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*a\.csv: No space left on device"):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_an_interrupted_write_leaves_no_partial_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.csv", "text")
    assert os.listdir(tmp_path) == []


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"


def test_text_is_written_alike_in_every_locale(tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    write_atomically(tmp_path / "a", "±")
    assert (tmp_path / "a").read_bytes() == "±".encode()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300, "File name too long"),
        ("file/run", "Not a directory"),
        ("file", "File exists"),
        ("pipe", "File exists"),
    ],
)
def test_a_folder_that_cannot_be_made_is_named_and_none_above_it_is_left(name, reason, tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    new = tmp_path / "new" / name if len(name) > 255 else tmp_path / name
    with pytest.raises(UserError, match=f"cannot make the folder .*: {reason}"):
        make_folder(new)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_a_folder_of_the_system_is_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"cannot make the folder /proc/gradalign"):
        make_folder(Path("/proc/gradalign"))
