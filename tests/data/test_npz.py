"""A hostile .npz file is refused in one sentence that names it, before it takes memory."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from gradalign_cli.data import dataset_statuses, load_dataset, npz
from gradalign_cli.errors import UserError

ARRAYS = {
    "x_train": np.zeros((4, 5, 6, 3), np.uint8),
    "y_train": np.array([0, 1, 0, 1]),
    "x_test": np.ones((2, 5, 6, 3), np.uint8),
    "y_test": np.array([1, 0]),
}


def packed(array):
    """The bytes of an array as a member of an .npz file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header(shape, descr="|u1", more=b""):
    """The bytes of an array that claims a shape and a type, and has these more."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + more


def write_zip(path, changes=(), suffix=".npy", claimed=(), packing=zipfile.ZIP_DEFLATED):
    """An archive of ARRAYS with some members changed; `claimed`: sizes that its list claims."""
    members = {key: packed(array) for key, array in ARRAYS.items()} | dict(changes)
    with zipfile.ZipFile(path, "w", packing) as archive:
        for key, content in members.items():
            archive.writestr(key + suffix, content)
        for info in archive.filelist:
            info.file_size = dict(claimed).get(info.filename.removesuffix(".npy"), info.file_size)


HOSTILE = {
    "700 TiB in the header": (
        {"changes": {"x_train": header((7 * 10**14, 1, 1))}},
        r"x_train must have 700000000000000 bytes for its shape",
    ),
    "700 TiB in the header and in the list": (
        {
            "changes": {"x_train": header((7 * 10**14, 1, 1))},
            "claimed": {"x_train": 7 * 10**14 + len(header((7 * 10**14, 1, 1)))},
        },
        r"x_train must not be packed to less than 1/100 of its size",
    ),
    "negative shape": ({"changes": {"x_train": header((-4, -5, 6))}}, "must be an array of num"),
    "truth as a shape": ({"changes": {"x_train": header((True, 1, 1))}}, "must be an array of num"),
    "objects": (
        {"changes": {"y_train": packed(np.array([{}, 1, 2, 3], object))}},
        "y_train must be an array of numbers, found object",
    ),
    "later version": (
        {"changes": {"x_test": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)}},
        "x_test must be an array of numbers",
    ),
    "deep header": (
        {"changes": {"x_test": header("(" * 9000)}},
        r"is damaged or not an \.npz file",
    ),
    "no array": ({"changes": {"x_test": b"cos\nsystem\n(S'true'\ntR."}}, "is damaged or not"),
    "text": ({"changes": {"y_test": packed(np.array(["a", "b"]))}}, "y_test must be one whole"),
    "fractions": ({"changes": {"y_test": packed([0.0, 1.0])}}, "y_test must be one whole"),
    "no pixels": (
        {"changes": {key: packed(np.zeros((n, 0, 6), np.uint8))
                     for key, n in (("x_train", 4), ("x_test", 2))}},
        r"x_train must be uint8 images, .*found uint8 \[4, 0, 6\]",
    ),
    "no images": (
        {"changes": {"x_test": packed(np.zeros((0, 5, 6, 3), np.uint8)), "y_test": packed([])}},
        r"x_test must be uint8 images, at least one, .* found uint8 \[0, 5, 6, 3\]",
    ),
    "five channels": (
        {"changes": {key: packed(np.zeros((n, 5, 6, 4), np.uint8))
                     for key, n in (("x_train", 4), ("x_test", 2))}},
        r"with 1 or 3 channels, found uint8 \[4, 5, 6, 4\]",
    ),
    "label that no type holds": (
        {"changes": {"y_train": packed(np.array([0, 1, 0, 2**64 - 1], np.uint64))}},
        "labels must be 0 to 18446744073709551615",
    ),
    "no suffix": ({"suffix": ""}, "must hold x_train, y_train, x_test, y_test, x_train is missing"),
    "packed otherwise": ({"packing": zipfile.ZIP_LZMA}, "must be packed as numpy packs it"),
    "many members": ({"changes": {f"m{n}": b"" for n in range(100)}}, "must have at most 100"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_named_and_takes_no_memory(kind, tmp_path):
    how, sentence = HOSTILE[kind]
    write_zip(tmp_path / "mine.npz", **how)
    tracemalloc.start()
    with pytest.raises(UserError, match=sentence) as error:
        load_dataset("mine", str(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(tmp_path / "mine.npz") in str(error.value)
    assert "\n" not in str(error.value)
    assert peak < 2**24


def test_too_little_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    def hungry(*_, **__):
        raise MemoryError

    write_zip(tmp_path / "mine.npz")
    monkeypatch.setattr(np.lib.format, "read_array", hungry)
    with pytest.raises(MemoryError):
        load_dataset("mine", str(tmp_path))


def test_what_is_no_archive_is_named(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["x_train"])
    for content in ((tmp_path / "a.npy").read_bytes(), b"\x80\x04N.", b"PK\5\6" + b"\xff" * 18):
        (tmp_path / "mine.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"mine\.npz is damaged or not an \.npz file"):
            load_dataset("mine", str(tmp_path))


def test_an_encrypted_file_is_named(tmp_path):
    write_zip(tmp_path / "mine.npz", packing=zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag in the list of members
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match="must not be encrypted, x_train is"):
        load_dataset("mine", str(tmp_path))


def test_two_members_of_one_name_are_refused(tmp_path):
    write_zip(tmp_path / "mine.npz")
    with (
        zipfile.ZipFile(tmp_path / "mine.npz", "a") as archive,
        pytest.warns(UserWarning, match="Dup"),
    ):
        archive.writestr("x_train.npy", b"")
    with pytest.raises(UserError, match="must hold x_train once, found it 2 times"):
        load_dataset("mine", str(tmp_path))


def test_a_list_of_members_that_would_fill_memory_is_not_read(tmp_path, monkeypatch):
    write_zip(tmp_path / "mine.npz", changes={"m" * 60_000: b"", "n" * 60_000: b""})
    monkeypatch.setattr(npz, "LONGEST_READ", 100_000)
    with pytest.raises(UserError, match="too many members"):
        load_dataset("mine", str(tmp_path))


def test_images_packed_to_nothing_are_refused_where_they_are_large(tmp_path, monkeypatch):
    zeros = {"x_train": packed(np.zeros((4, 100, 500), np.uint8)),
             "x_test": packed(np.zeros((2, 100, 500), np.uint8))}  # fmt: skip
    write_zip(tmp_path / "mine.npz", changes=zeros)
    assert load_dataset("mine", str(tmp_path)).images.shape == (6, 1, 100, 500)
    monkeypatch.setattr(npz, "RATIO_COUNTS_FROM", 150_000)
    with pytest.raises(UserError, match="x_train must not be packed to less than 1/100"):
        load_dataset("mine", str(tmp_path))


def test_a_dataset_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    size = sum(array.nbytes for array in ARRAYS.values())
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    monkeypatch.setattr("gradalign_cli.data.memory.available_bytes", lambda: 3 * size)
    assert load_dataset("mine", str(tmp_path)).classes == 2
    monkeypatch.setattr("gradalign_cli.data.memory.available_bytes", lambda: 3 * size - 1)
    with pytest.raises(UserError, match=r"mine\.npz must have at most .* of arrays, a third of"):
        load_dataset("mine", str(tmp_path))


def test_labels_of_any_whole_type_and_arrays_in_any_order_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
    arrays = {
        "x_train": np.asfortranarray(images[:4]), "y_train": np.array([0, 1, 0, 1], np.uint64),
        "x_test": images[4:], "y_test": np.array([1, 0], ">i2"), "names": np.array(["a", "b"]),
    }  # fmt: skip
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    mine = load_dataset("mine", str(tmp_path))
    assert np.array_equal(mine.images, images.transpose(0, 3, 1, 2))
    assert mine.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert mine.labels.dtype == np.int64


def test_one_bad_file_neither_stops_nor_hangs_the_status_of_the_others(tmp_path):
    np.savez(tmp_path / "good.npz", **ARRAYS)
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "device.npz").symlink_to("/dev/zero")
    (tmp_path / "gone.npz").symlink_to(tmp_path / "nowhere")
    write_zip(tmp_path / "bad.npz", changes={"x_test": b""})
    rows = {row.name: row for row in dataset_statuses(str(tmp_path))}
    assert rows["good"].available
    for name, kind in (("pipe", "a named pipe"), ("folder", "a folder"), ("device", "a device")):
        assert f"{name}.npz must be a regular file, found {kind}" in rows[name].location_or_problem
        with pytest.raises(UserError, match=f"must be a regular file, found {kind}"):
            load_dataset(name, str(tmp_path))
    assert "is damaged" in rows["bad"].location_or_problem
    assert "not found" in rows["gone"].location_or_problem
