"""Data folders and downloads as users leave them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torchvision

from gradalign_cli.data import data_folder, dataset_statuses, load_dataset, prepare_dataset
from gradalign_cli.data.sources import download_dataset
from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import LOCK_NAME, FolderLock


def test_a_data_folder_that_is_none_or_may_not_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for read in (data_folder, dataset_statuses, lambda place: load_dataset("digits", place)):
        with pytest.raises(UserError, match=r"`data_dir` must be a folder, found .*file"):
            read(str(tmp_path / "file"))
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match="`\\$GRADALIGN_DATA` must be a folder"):
        data_folder(None)
    monkeypatch.setattr(os, "access", lambda *_: False)  # what root is never told
    with pytest.raises(UserError, match="must be a folder that may be read"):
        data_folder(str(tmp_path))


def test_a_data_folder_whose_name_is_too_long_has_no_datasets_and_cannot_be_made():
    statuses = {row.name: row for row in dataset_statuses("x" * 300)}
    assert [name for name, row in statuses.items() if row.available] in (
        ["digits"], ["digits", "fashion_mnist"],  # as Debian installs it
    )  # fmt: skip
    with pytest.raises(UserError, match=r"cannot make the folder x+: File name too long"):
        prepare_dataset("digits", "x" * 300)


@pytest.mark.parametrize("name", ["x" * 300, "../mine", "a\0b", "", ".."])
def test_a_name_that_is_none_of_a_file_in_the_data_folder_is_refused(name, tmp_path):
    (tmp_path / "data").mkdir()
    prepare_dataset("digits", str(tmp_path))
    (tmp_path / "digits.npz").rename(tmp_path / "mine.npz")
    with pytest.raises(UserError, match=r"`benchmark.dataset` must be one of"):
        load_dataset(name, str(tmp_path / "data"))


@pytest.mark.parametrize("name", [["digits"], 5, None])
def test_a_dataset_is_named_by_a_text(name):
    with pytest.raises(UserError, match=r"`benchmark\.dataset` must be the name of a dataset"):
        load_dataset(name)


def test_two_that_prepare_one_dataset_at_once_both_have_it(tmp_path, monkeypatch):
    """Each writes to a file of its own: the first has not renamed it when the second begins."""
    savez, started = np.savez, []

    def slow(file, **arrays):
        started.append(file)
        if len(started) == 1:
            prepare_dataset("digits", str(tmp_path))
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", slow)
    prepare_dataset("digits", str(tmp_path))
    assert len(started) == 2
    assert os.listdir(tmp_path) == ["digits.npz"]
    assert len(load_dataset("digits", str(tmp_path)).images) == 1797


def test_a_full_disk_while_a_dataset_is_stored_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*digits\.npz: No space left"):
        prepare_dataset("digits", str(tmp_path))
    assert os.listdir(tmp_path) == []


class BrokenOff:
    """A reader of torchvision whose download ends before its time."""

    error: BaseException = RuntimeError("File not found or corrupted.")

    def __init__(self, root, train, download):
        (Path(root) / "half").write_text("half")
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("corrupted"), OSError("gone")])
def test_a_download_that_is_broken_off_leaves_nothing(error, tmp_path, monkeypatch):
    monkeypatch.setattr(BrokenOff, "error", error)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", BrokenOff)
    with pytest.raises((UserError, KeyboardInterrupt)):
        download_dataset("cifar10", tmp_path / "data")
    assert os.listdir(tmp_path) == []


def test_a_killed_download_is_cleared_away_by_the_next_and_one_that_is_on_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", BrokenOff)
    for name in ("download-killed", "download-on", "download-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "download-killed" / LOCK_NAME).touch()
    (tmp_path / "download-killed" / "half").touch()
    lock = FolderLock(tmp_path / "download-on")
    with pytest.raises(UserError, match="the download failed"):
        download_dataset("cifar10", tmp_path)
    lock.release()
    assert sorted(os.listdir(tmp_path)) == ["download-mine", "download-on"]


def test_what_is_no_regular_file_in_torchvisions_layout_is_named(tmp_path):
    layout = tmp_path / "cifar-10-batches-py"
    layout.mkdir()
    os.mkfifo(layout / "data_batch_1")
    with pytest.raises(UserError, match=r"is not whole: .*data_batch_1 must be a regular file"):
        load_dataset("cifar10", str(tmp_path))
    (layout / "data_batch_1").unlink()
    with (layout / "data_batch_1").open("wb") as file:
        file.truncate(2**40)  # takes no place on the disk, and hours to sum up
    with pytest.raises(UserError, match="data_batch_1 must have at most 268435456 bytes"):
        load_dataset("cifar10", str(tmp_path))
