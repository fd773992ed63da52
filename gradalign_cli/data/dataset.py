"""A dataset in memory, and the checks that its arrays must pass."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradalign_cli.data.superclasses import CIFAR100_SUPERCLASS
from gradalign_cli.errors import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")


class Dataset(NamedTuple):
    """x: uint8 [n, channels, height, width], training images first;  y: int64 [n];
    superclass: int64 [classes], or None where the dataset has none.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    n_train: int
    classes: int
    superclass: np.ndarray | None


class Known(NamedTuple):
    """What a dataset of this name must be: image shape (height, width[, channels]) and counts."""

    shape: tuple[int, ...]
    train: int
    test: int
    classes: int


KNOWN = {
    "digits": Known((8, 8), 1437, 360, 10),
    "mnist": Known((28, 28), 60000, 10000, 10),
    "fashion_mnist": Known((28, 28), 60000, 10000, 10),
    "cifar10": Known((32, 32, 3), 50000, 10000, 10),
    "cifar100": Known((32, 32, 3), 50000, 10000, 100),
    "svhn": Known((32, 32, 3), 73257, 26032, 10),
}
NAMES = (*KNOWN, "notmnist")  # of which several splits are in use

Arrays = dict[str, np.ndarray]


def read_npz(path: Path) -> Arrays:
    """The four arrays of an .npz file; DataError names a file that is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            missing = [key for key in KEYS if key not in packed]
            if missing:
                raise DataError(f"{path} must hold {', '.join(KEYS)}, {missing[0]} is missing")
            return {key: packed[key] for key in KEYS}
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or not an .npz file ({error})") from error


def checked(name: str, arrays: Arrays, where: str) -> Dataset:
    """The arrays as a dataset; DataError where shapes, types, labels or counts are wrong."""
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.ndim not in (3, 4) or len(x) == 0:
            raise DataError(
                f"{where}: x_{part} must be uint8 images [n, height, width] or [n, height, width, "
                f"channels], found {x.dtype} {list(x.shape)}"
            )
        if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x):
            raise DataError(
                f"{where}: y_{part} must be one whole number for each of the {len(x)} images, "
                f"found {y.dtype} {list(y.shape)}"
            )
    x_train, x_test = arrays["x_train"], arrays["x_test"]
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{where}: training and test images must have one shape, found "
            f"{list(x_train.shape[1:])} and {list(x_test.shape[1:])}"
        )
    y = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64)
    classes = int(y.max()) + 1
    known = KNOWN.get(name)
    if known is not None:
        found = Known(x_train.shape[1:], len(x_train), len(x_test), classes)
        if found != known:
            raise DataError(f"{where}: {name} must be {known}, found {found}")
    present = np.unique(arrays["y_train"])
    if y.min() < 0 or len(present) != classes:
        raise DataError(
            f"{where}: labels must be 0 to {classes - 1}, each in the training part, found "
            f"{len(present)} of them and a smallest of {y.min()}"
        )
    x = np.concatenate([x_train, x_test])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x[:, None]
    superclass = np.array(CIFAR100_SUPERCLASS) if name == "cifar100" else None
    return Dataset(name, x, y, len(x_train), classes, superclass)
