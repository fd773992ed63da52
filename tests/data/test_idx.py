"""Idx files are read as far as their headers claim, and no further."""

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest

from gradalign_cli.data import dataset_statuses, load_dataset
from gradalign_cli.data.idx import read_idx
from gradalign_cli.errors import UserError


def idx(shape, content):
    """The bytes of an idx file."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (idx((60_000, 2**20, 2**20), b""), "must have at most 268435456 bytes, its header says"),
        (idx((2, 2), b"\0" * 2**24), r"must have 4 bytes for its shape \[2, 2\], found more"),
        (idx((2, 2), b"\0" * 3), r"must have 4 bytes for its shape \[2, 2\], found 3"),
        (idx((1,) * 40, b"\0"), "must be an idx file of bytes"),
        (struct.pack(">HBB", 0, 13, 1), "must be an idx file of bytes"),
        (b"", "is damaged or not an idx file"),
    ],
)
@pytest.mark.parametrize("name", ["a.gz", "a"])
def test_a_hostile_idx_file_is_named_and_takes_no_memory(content, sentence, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "a.gz" else content)
    tracemalloc.start()
    with pytest.raises(UserError, match=sentence) as error:
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert peak < 2**21


def test_a_damaged_archive_and_a_pipe_are_named(tmp_path):
    content = bytearray(gzip.compress(idx((100, 100), os.urandom(10_000))))
    content[5000:5100] = bytes(100)
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.gz is damaged"):
        read_idx(tmp_path / "a.gz")
    os.mkfifo(tmp_path / "pipe.gz")
    with pytest.raises(UserError, match="must be a regular file, found a named pipe"):
        read_idx(tmp_path / "pipe.gz")


def test_mnist_in_torchvisions_layout_is_read_gzipped_or_not_without_torchvision(
    tmp_path, monkeypatch
):
    import torchvision

    monkeypatch.delattr(torchvision.datasets, "MNIST")
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count, packed in (("train", 60_000, False), ("t10k", 10_000, True)):
        first = generator.integers(0, 256, (9, 28, 28), dtype=np.uint8).tobytes()
        images = idx((count, 28, 28), first + bytes(784 * (count - 9)))
        labels = idx((count,), bytes(n % 10 for n in range(count)))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{kind}-ubyte" + ".gz" * packed
            (raw / name).write_bytes(gzip.compress(content, 1) if packed else content)
    mnist = load_dataset("mnist", str(tmp_path))
    assert mnist.images.shape == (70_000, 1, 28, 28)
    assert mnist.images[60_000:][:9].tobytes() == first
    (raw / "train-labels-idx1-ubyte").unlink()
    os.mkfifo(raw / "train-labels-idx1-ubyte")
    (row,) = [row for row in dataset_statuses(str(tmp_path)) if row.name == "mnist"]
    assert "MNIST/raw is not whole" in row.location_or_problem
    assert "train-labels-idx1-ubyte must be a regular file" in row.location_or_problem
