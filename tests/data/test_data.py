import gzip
import os
import struct

import numpy as np
import pytest

from gradalign_cli.data import (
    available_datasets,
    data_folder,
    dataset_statuses,
    load_dataset,
    prepare_dataset,
)
from gradalign_cli.data.idx import read_idx_folder
from gradalign_cli.data.sources import DEBIAN_FASHION_MNIST
from gradalign_cli.data.superclasses import CIFAR100_SUPERCLASS, SUPERCLASSES
from gradalign_cli.errors import DataError

VALID_ARRAYS = {
    "x_train": np.zeros((4, 5, 6, 3), np.uint8),
    "y_train": np.array([0, 1, 0, 1]),
    "x_test": np.ones((2, 5, 6, 3), np.uint8),
    "y_test": np.array([1, 0]),
}


def test_digits_ship_with_the_package(tmp_path):
    digits = load_dataset("digits", str(tmp_path))
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.train_count == 1437
    assert digits.images.max() == 255


def test_a_users_own_arrays_are_found_by_name(tmp_path):
    np.savez(tmp_path / "mine.npz", **VALID_ARRAYS)
    mine = load_dataset("mine", str(tmp_path))
    assert mine.images.shape == (6, 3, 5, 6)
    assert mine.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert "mine" in [row.name for row in dataset_statuses(str(tmp_path)) if row.available]


def test_images_with_their_channels_first_are_recognised(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 10, 12), dtype=np.uint8)
    parts = {"x_train": images[:4], "x_test": images[4:]}
    np.savez(tmp_path / "first.npz", **VALID_ARRAYS | parts)
    last = {name: part.transpose(0, 2, 3, 1) for name, part in parts.items()}
    np.savez(tmp_path / "last.npz", **VALID_ARRAYS | last)
    for name in ("first", "last"):
        assert (load_dataset(name, str(tmp_path)).images == images).all()
    statuses = {row.name: row.image_shape for row in dataset_statuses(str(tmp_path))}
    assert statuses["first"] == statuses["last"] == (3, 10, 12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x_train": VALID_ARRAYS["x_train"].astype(float)}, "x_train must be uint8"),
        ({"y_train": np.array([0, 1, 0])}, "y_train must be one whole number"),
        ({"y_test": np.array([2, 0])}, "labels must be 0 to 2"),
        ({"y_train": np.array([0, -1, 0, 1])}, "labels must be"),
        ({"x_test": np.ones((2, 5, 5, 3), np.uint8)}, "must have one shape"),
    ],
)
def test_a_wrong_array_is_named(change, sentence, tmp_path):
    np.savez(tmp_path / "mine.npz", **(VALID_ARRAYS | change))
    with pytest.raises(DataError, match=sentence) as error:
        load_dataset("mine", str(tmp_path))
    assert str(tmp_path / "mine.npz") in str(error.value)


def test_a_truncated_file_is_named(tmp_path):
    np.savez(tmp_path / "mine.npz", **VALID_ARRAYS)
    content = (tmp_path / "mine.npz").read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 5):
        (tmp_path / "mine.npz").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"mine\.npz"):
            load_dataset("mine", str(tmp_path))


def test_a_wrong_count_under_a_known_name_is_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", **VALID_ARRAYS)
    with pytest.raises(DataError, match="mnist must be"):
        load_dataset("mnist", str(tmp_path))


def test_a_failed_download_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    import torchvision

    def no_network(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", no_network)
    with pytest.raises(DataError, match=r"cifar10\.npz.*no network.*GRADALIGN_DATA"):
        load_dataset("cifar10", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_prepare_writes_arrays_that_load_the_same(tmp_path):
    path = prepare_dataset("digits", str(tmp_path))
    assert path == tmp_path / "digits.npz"
    prepared = load_dataset("digits", str(tmp_path))
    packaged = load_dataset("digits", str(tmp_path / "empty"))
    assert np.array_equal(prepared.images, packaged.images)
    assert np.array_equal(prepared.labels, packaged.labels)


def test_the_folder_comes_from_the_argument_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path / "b"))
    assert data_folder(str(tmp_path / "a")) == tmp_path / "a"
    assert data_folder(None) == tmp_path / "b"


def test_each_superclass_has_five_classes():
    assert np.bincount(CIFAR100_SUPERCLASS).tolist() == [5] * 20
    assert CIFAR100_SUPERCLASS[0] == list(SUPERCLASSES).index("fruit and vegetables")  # apple
    assert CIFAR100_SUPERCLASS[99] == list(SUPERCLASSES).index("non-insect invertebrates")  # worm
    assert CIFAR100_SUPERCLASS[52] == list(SUPERCLASSES).index("trees")  # oak


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("cifar100", (3, 32, 32))])
def test_the_real_arrays_pass_every_check(name, shape):
    if not (data_folder(None) / f"{name}.npz").exists():
        pytest.skip(f"{name}.npz is not in the data folder ({os.environ.get('GRADALIGN_DATA')})")
    assert load_dataset(name).images.shape[1:] == shape


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_debians_layout_is_read_and_a_truncated_file_of_it_named(tmp_path):
    generator = np.random.default_rng(0)
    expected = {}
    for part, prefix, count in (("train", "train", 5), ("test", "t10k", 3)):
        expected[f"x_{part}"] = generator.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        expected[f"y_{part}"] = generator.integers(0, 10, count, dtype=np.uint8)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", expected[f"x_{part}"])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", expected[f"y_{part}"])
    arrays = read_idx_folder(tmp_path)
    assert all(np.array_equal(arrays[name], array) for name, array in expected.items())
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        read_idx_folder(tmp_path)


def test_torchvisions_layout_is_found_and_named_when_it_is_not_whole(tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match=r"MNIST/raw is not whole"):
        load_dataset("mnist", str(tmp_path))
    (row,) = [row for row in dataset_statuses(str(tmp_path)) if row.name == "mnist"]
    assert not row.available
    assert "is not whole" in row.location_or_problem


def test_svhn_is_read_by_torchvisions_names_for_its_parts(tmp_path, monkeypatch):
    import torchvision

    generator, first_images = np.random.default_rng(0), {}

    class SVHN:
        def __init__(self, root, split, download):
            count = {"train": 73257, "test": 26032}[split]
            assert (root, download) == (str(tmp_path), False)
            self.data = np.zeros((count, 3, 32, 32), np.uint8)
            self.data[:9] = generator.integers(0, 256, (9, 3, 32, 32))
            self.labels = np.arange(count) % 10
            first_images[split] = self.data[:9]

    monkeypatch.setattr(torchvision.datasets, "SVHN", SVHN)
    assert available_datasets(["svhn"], str(tmp_path)) == []
    (tmp_path / "train_32x32.mat").touch()
    assert available_datasets(["svhn"], str(tmp_path)) == ["svhn"]
    svhn = load_dataset("svhn", str(tmp_path))
    assert np.array_equal(svhn.images[:9], first_images["train"])
    assert np.array_equal(svhn.images[svhn.train_count :][:9], first_images["test"])


def test_a_missing_dataset_is_listed_with_how_to_get_it(tmp_path):
    problems = {
        row.name: row.location_or_problem
        for row in dataset_statuses(str(tmp_path))
        if not row.available
    }
    assert problems["svhn"] == "not found; `gradalign data prepare svhn` downloads it"
    assert problems["notmnist"].startswith("not found; put notmnist.npz with x_train, y_train")
    with pytest.raises(DataError, match=r"notmnist was not found in .*; put notmnist\.npz with"):
        load_dataset("notmnist", str(tmp_path))


@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_mnist_is_found_where_debian_puts_it(tmp_path):
    assert load_dataset("fashion_mnist", str(tmp_path)).images.shape == (70000, 1, 28, 28)


def test_a_negative_label_is_refused_however_many_there_are(tmp_path):
    labels = {"y_train": np.array([-1, 1, -1, 1]), "y_test": np.array([1, 1])}
    np.savez(tmp_path / "mine.npz", **VALID_ARRAYS | labels)
    with pytest.raises(DataError, match="a smallest of -1"):
        load_dataset("mine", str(tmp_path))


def test_a_prepared_dataset_leaves_no_partial_file(tmp_path):
    prepare_dataset("digits", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["digits.npz"]
