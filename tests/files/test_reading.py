"""Only regular files are read, and no more of them than a limit."""

import os
import socket

import pytest

from gradalign_cli.errors import UserError
from gradalign_cli.files.reading import read_bounded, read_json


def test_what_is_no_regular_file_is_named_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        for name, kind in (("pipe", "a named pipe"), ("socket", "a socket"), (".", "a folder")):
            with pytest.raises(UserError, match=f"must be a regular file, found {kind}"):
                read_bounded(tmp_path / name, 10)
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="must be a regular file, found a device"):
        read_bounded(tmp_path / "link", 10)
    with pytest.raises(UserError, match=r"cannot read .*none: No such file"):
        read_bounded(tmp_path / "none", 10)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(UserError, match="must have at most 4 bytes"):
        read_bounded(tmp_path / "a", 4)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 9000, b"9" * 9000, b"\0"])
def test_what_is_no_json_is_named(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=r"a\.json must be valid JSON"):
        read_json(tmp_path / "a.json", 10_000)
