"""Configs that are read again: each reader gets one of its own, and a changed file is read anew."""

import os

import pytest

from gradalign_cli.composition.config_sources import BoundedFiles
from gradalign_cli.errors import UserError


def test_a_config_is_read_once_and_given_to_each_reader_as_a_copy(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("x: 1\ny: {z: 2}\n")
    source = BoundedFiles("test", f"file://{tmp_path}")
    first = source.load_config("a")
    first.config.y.z = 7
    monkeypatch.setattr("omegaconf.OmegaConf.load", None)  # would be called to read it again
    assert source.load_config("a").config == {"x": 1, "y": {"z": 2}}


def test_a_file_that_changes_is_read_anew_and_checked_again(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("x: 1\n")
    source = BoundedFiles("test", f"file://{tmp_path}")
    assert source.load_config("a").config == {"x": 1}
    path.write_text("x: 2\n")
    os.utime(path, ns=(0, 0))  # whatever the clock's steps are
    assert source.load_config("a").config == {"x": 2}
    path.write_text("x: [\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match=r"a\.yaml"):
        source.load_config("a")
