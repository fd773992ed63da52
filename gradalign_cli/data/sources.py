"""Where datasets are looked for: the package, the data folder, Debian's packages, a download."""

import gzip
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradalign_cli.data.dataset import KEYS, NAMES, Arrays, Dataset, checked, read_npz
from gradalign_cli.errors import DataError

PACKAGED = Path(__file__).with_name("digits.npz")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# the class of torchvision that reads or downloads it, and where it keeps it below its root
TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
    "svhn": ("SVHN", "train_32x32.mat"),
}


class Status(NamedTuple):
    """A row of `gradalign data status`; `where` says what is wrong or to be done if not found."""

    name: str
    found: bool
    where: str
    train: int
    test: int
    classes: int


def data_folder(data_dir: str | None) -> Path:
    """The folder given, else $GRADALIGN_DATA, else gradalign's in the user's cache."""
    if data_dir or os.environ.get("GRADALIGN_DATA"):
        return Path(data_dir or os.environ["GRADALIGN_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "gradalign"


def read_idx(path: Path) -> np.ndarray:
    """An array of a gzipped idx file, the format MNIST was published in."""
    try:
        with gzip.open(path) as file:
            zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if zeros or kind != 8:
                raise DataError(f"{path} must be an idx file of bytes")
            return np.frombuffer(file.read(), np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DataError(f"{path} is damaged or not a gzipped idx file ({error})") from error


def read_debian(folder: Path) -> Arrays:
    """Fashion-MNIST as Debian's package dataset-fashion-mnist installs it."""
    found = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        found[f"x_{part}"] = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        found[f"y_{part}"] = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    return found


def through_torchvision(name: str, root: Path, download: bool) -> Arrays:
    """The arrays of a dataset that torchvision has, or gets, below `root`."""
    import torchvision

    reader = getattr(torchvision.datasets, TORCHVISION[name][0])
    found: Arrays = {}
    for part in ("train", "test"):
        if name == "svhn":  # torchvision has its own words for it
            images: Any = reader(str(root), split=part, download=download)
            x, y = images.data.transpose(0, 2, 3, 1), images.labels
        else:
            images = reader(str(root), train=part == "train", download=download)
            x, y = images.data, images.targets
        found[f"x_{part}"], found[f"y_{part}"] = np.asarray(x), np.asarray(y)
    return found


def place(name: str, folder: Path) -> tuple[Path, Callable[[], Arrays]] | None:
    """Where a dataset lies on this machine and how it is read from there; None where nowhere."""
    kept = folder / f"{name}.npz"
    if kept.exists():
        return kept, lambda: read_npz(kept)
    if name == "digits":
        return PACKAGED, lambda: read_npz(PACKAGED)
    if name in TORCHVISION:
        layout = folder / TORCHVISION[name][1]
        if layout.exists():
            return layout, lambda: read_layout(name, folder, layout)
    if name == "fashion_mnist" and DEBIAN.is_dir():
        return DEBIAN, lambda: read_debian(DEBIAN)
    return None


def read_layout(name: str, folder: Path, layout: Path) -> Arrays:
    """A dataset in torchvision's layout; DataError names the folder where it is not whole."""
    try:
        return through_torchvision(name, folder, download=False)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{layout} is not whole: {' '.join(str(error).split())}") from error


def download(name: str, folder: Path) -> Arrays:
    """The dataset as torchvision downloads it, tried once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as root:
            return through_torchvision(name, Path(root), download=True)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        places = f"{folder / name}.npz and {folder / TORCHVISION[name][1]}"
        places += f" and {DEBIAN}" if name == "fashion_mnist" else ""
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} was not found in {places}, and the download failed ({reason}); put {name}.npz "
            "with x_train, y_train, x_test, y_test into the data folder, or name another with "
            "`data_dir` or $GRADALIGN_DATA"
        ) from error


def load(name: str, data_dir: str | None = None) -> Dataset:
    """Find, or else download and keep, a dataset, and check it.

    Raises DataError, naming the file, where it is missing, damaged or not what its name promises.
    """
    folder = data_folder(data_dir)
    found = place(name, folder)
    if found is not None:
        return checked(name, found[1](), str(found[0]))
    if name not in TORCHVISION:
        if name in NAMES:
            raise DataError(f"{name} was not found in {folder}; {advice(name)}")
        raise DataError(
            f"`benchmark.dataset` must be one of {', '.join(NAMES)} or the name of an .npz file in "
            f"{folder}, found {name!r}"
        )
    arrays = download(name, folder)
    dataset = checked(name, arrays, f"torchvision's download of {name}")
    keep(folder / f"{name}.npz", arrays)
    return dataset


def present(names: Sequence[str], data_dir: str | None = None) -> list[str]:
    """Those of the datasets that lie on this machine."""
    folder = data_folder(data_dir)
    return [name for name in names if place(name, folder) is not None]


def keep(path: Path, arrays: Arrays) -> None:
    """Write an .npz file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Make sure that NAME.npz is in the data folder and right; returns its path."""
    folder = data_folder(data_dir)
    path = folder / f"{name}.npz"
    dataset = load(name, data_dir)
    if not path.exists():
        x = dataset.x[:, 0] if dataset.x.shape[1] == 1 else dataset.x.transpose(0, 2, 3, 1)
        n = dataset.n_train
        parts = {
            "x_train": x[:n],
            "y_train": dataset.y[:n],
            "x_test": x[n:],
            "y_test": dataset.y[n:],
        }
        keep(path, parts)
    return path


def advice(name: str) -> str:
    """How a dataset that was not found can be had."""
    if name in TORCHVISION:
        return f"`gradalign data prepare {name}` downloads it"
    return f"put {name}.npz with {', '.join(KEYS)} into the data folder"


def status(data_dir: str | None = None) -> list[Status]:
    """What is there of the known datasets and of the user's own, without downloading."""
    folder = data_folder(data_dir)
    own = sorted(path.stem for path in folder.glob("*.npz")) if folder.is_dir() else []
    rows = []
    for name in [*NAMES, *(name for name in own if name not in NAMES)]:
        found = place(name, folder)
        if found is None:
            rows.append(Status(name, False, f"not found; {advice(name)}", 0, 0, 0))
            continue
        try:
            data = checked(name, found[1](), str(found[0]))
        except DataError as error:
            rows.append(Status(name, False, str(error), 0, 0, 0))
            continue
        test = len(data.y) - data.n_train
        rows.append(Status(name, True, str(found[0]), data.n_train, test, data.classes))
    return rows
