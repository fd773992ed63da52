"""Where datasets are looked for: the package, the data folder, Debian's packages, a download."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradalign_cli.data.dataset import (
    KEYS,
    NAMES,
    Arrays,
    Dataset,
    validated_dataset,
)
from gradalign_cli.data.idx import read_idx_folder
from gradalign_cli.data.image_folders import (
    class_folder_files,
    cub_files,
    read_images,
    tiny_imagenet_files,
)
from gradalign_cli.data.npz import read_npz
from gradalign_cli.errors import DataError, UserError, did_you_mean, require
from gradalign_cli.files.locking import LOCK_NAME, FolderLock
from gradalign_cli.files.reading import check_regular
from gradalign_cli.files.writing import make_folder, remove_empty_folders, replacement

PACKAGED_DIGITS = Path(__file__).with_name("digits.npz")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
# the class of torchvision that reads or downloads a dataset, and its place below torchvision's root
TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
    "svhn": ("SVHN", "train_32x32.mat"),
    "kmnist": ("KMNIST", "KMNIST/raw"),
    "emnist": ("EMNIST", "EMNIST/raw"),
}
# the folder of a dataset of image files, as it is unpacked, and what lists its files
IMAGE_FOLDERS = {
    "tiny_imagenet": ("tiny-imagenet-200", tiny_imagenet_files),
    "cub200": ("CUB_200_2011", cub_files),
}
LARGEST_SIZE = 1024  # pixels of height and width
IMAGE_SIZE = 64  # height and width to which these are resized


DOWNLOAD = "download-"  # begins the name of a folder for one download
# torchvision keeps the published files of these; what the names of the parts begin with
IDX_DATASETS = {
    "mnist": ("train", "t10k"),
    "fashion_mnist": ("train", "t10k"),
    "kmnist": ("train", "t10k"),
    "emnist": ("emnist-balanced-train", "emnist-balanced-test"),
}
MOST_FILES, LARGEST_FILE = 100, 2**28  # of a dataset in torchvision's layout; SVHN's have 182 MB


class LocalSource(NamedTuple):
    """path: the file or folder of a dataset on this machine;  read: reads its arrays;  is_slow:
    whether that takes so long that they are then stored as an .npz file."""

    path: Path
    read: Callable[[], Arrays]
    is_slow: bool = False


class DatasetStatus(NamedTuple):
    """A row of `gradalign data status`.

    location_or_problem: the path where the dataset is available, otherwise what is wrong or to be
    done;  train, test, classes: numbers of images and classes, 0 where it is not available;
    image_shape: channels, height and width of an image, empty where it is not available.
    """

    name: str
    available: bool
    location_or_problem: str
    train: int
    test: int
    classes: int
    image_shape: tuple[int, ...] = ()


def data_folder(data_dir: str | None) -> Path:
    """`data_dir` where it is set, else $GRADALIGN_DATA, else gradalign's folder in the user's
    cache. It may be missing; DataError where it is no folder or may not be read."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    places = {
        "data_dir": data_dir,
        "$GRADALIGN_DATA": os.environ.get("GRADALIGN_DATA"),
        "$XDG_CACHE_HOME/gradalign": f"{cache}/gradalign",
    }
    name, place = next((name, place) for name, place in places.items() if place)
    folder = Path(os.path.expanduser(place))
    is_folder = os.path.isdir(folder)
    if os.path.lexists(folder) and not is_folder:
        raise DataError(f"`{name}` must be a folder, found {folder}")
    if is_folder and not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"`{name}` must be a folder that may be read, found {folder}")
    return folder


def read_with_torchvision(name: str, torchvision_root: Path, download: bool) -> Arrays:
    """The arrays of a dataset that torchvision finds below its root, or downloads to it."""
    import torchvision

    reader = getattr(torchvision.datasets, TORCHVISION[name][0])
    arrays: Arrays = {}
    options = {"split": "balanced"} if name == "emnist" else {}
    for part in ("train", "test"):
        if name == "svhn":  # torchvision names its options and arrays differently
            dataset: Any = reader(str(torchvision_root), split=part, download=download)
            images, labels = dataset.data.transpose(0, 2, 3, 1), dataset.labels
        else:
            dataset = reader(
                str(torchvision_root), train=part == "train", download=download, **options
            )
            images, labels = dataset.data, dataset.targets
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.asarray(images), np.asarray(labels)
    return arrays


def read_torchvision_files(name: str, torchvision_root: Path, raw_dataset_path: Path) -> Arrays:
    """A dataset that lies at `raw_dataset_path` in torchvision's layout below its root. Raises
    DataError, naming the path, where files are missing or damaged."""
    try:
        if name in IDX_DATASETS:
            return read_idx_folder(raw_dataset_path, *IDX_DATASETS[name])
        check_torchvision_files(raw_dataset_path)
        return read_with_torchvision(name, torchvision_root, download=False)
    except (UserError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"{raw_dataset_path} is not whole: {' '.join(str(error).split())}"
        ) from error


def check_torchvision_files(file_or_folder: Path) -> None:
    """Raise UserError unless the file, or those in the folder, are regular and not larger than the
    published ones. torchvision compares their check sums before it reads them."""
    for file in (
        islice(file_or_folder.iterdir(), MOST_FILES)
        if file_or_folder.is_dir()
        else [file_or_folder]
    ):
        status = file.stat()
        check_regular(file, status)
        if status.st_size > LARGEST_FILE:
            raise UserError(f"{file} must have at most {LARGEST_FILE} bytes")


def local_source(name: str, data_root: Path) -> LocalSource | None:
    """Where a dataset lies on this machine and how it is read; None where it is not found."""
    npz = data_root / f"{name}.npz"
    if npz.parent == data_root and os.path.exists(npz):  # False also where the name is too long
        return LocalSource(npz, lambda: read_npz(npz))
    if name == "digits":
        return LocalSource(PACKAGED_DIGITS, lambda: read_npz(PACKAGED_DIGITS))
    if name in TORCHVISION:
        layout = data_root / TORCHVISION[name][1]
        if os.path.exists(layout):
            return LocalSource(layout, lambda: read_torchvision_files(name, data_root, layout))
    if name in IMAGE_FOLDERS:
        folder_name, list_files = IMAGE_FOLDERS[name]
        folder = data_root / folder_name
        if os.path.exists(folder):
            return LocalSource(
                folder, lambda: read_images(list_files(folder), IMAGE_SIZE, folder), is_slow=True
            )
    if name == "fashion_mnist" and DEBIAN_FASHION_MNIST.is_dir():
        return LocalSource(DEBIAN_FASHION_MNIST, lambda: read_idx_folder(DEBIAN_FASHION_MNIST))
    return None


def download_dataset(name: str, data_root: Path) -> Arrays:
    """The arrays of a dataset that torchvision downloads, in one try; it shows how far it is and
    compares check sums. Raises DataError where the download fails."""
    made_folders = make_folder(data_root)
    remove_broken_downloads(data_root)
    try:
        with tempfile.TemporaryDirectory(dir=data_root, prefix=DOWNLOAD) as temporary:
            lock = FolderLock(Path(temporary))
            try:
                return read_with_torchvision(name, Path(temporary), download=True)
            finally:
                lock.release()
    except (RuntimeError, OSError, EOFError, ValueError, HTTPException) as error:
        searched = f"{data_root / name}.npz and {data_root / TORCHVISION[name][1]}"
        searched += f" and {DEBIAN_FASHION_MNIST}" if name == "fashion_mnist" else ""
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} was not found in {searched}, and the download failed ({reason}); put "
            f"{name}.npz with x_train, y_train, x_test, y_test into the data folder, or name "
            "another with `data_dir` or $GRADALIGN_DATA"
        ) from error
    finally:
        remove_empty_folders(made_folders)


def remove_broken_downloads(data_root: Path) -> None:
    """Remove what downloads left that were killed; those that are on have their folders locked."""
    for folder in data_root.glob(f"{DOWNLOAD}*"):
        if (folder / LOCK_NAME).exists() and not folder.is_symlink():
            with suppress(UserError):
                lock = FolderLock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def load_dataset(name: str, data_dir: str | None = None) -> Dataset:
    """The dataset of this name, checked. One that is not on this machine is downloaded and stored
    in the data folder.

    Raises UserError, naming the file, where it is missing, damaged or not what its name promises.
    """
    require(isinstance(name, str), "benchmark.dataset", "the name of a dataset", name)
    data_root = data_folder(data_dir)
    source = local_source(name, data_root)
    if source is not None:
        arrays = source.read()
        dataset = validated_dataset(name, arrays, str(source.path))
        if source.is_slow:
            write_npz(data_root / f"{name}.npz", arrays)
        return dataset
    if name not in TORCHVISION:
        if name in NAMES:
            raise DataError(f"{name} was not found in {data_root}; {missing_dataset_advice(name)}")
        raise DataError(
            f"`benchmark.dataset` must be one of {', '.join(NAMES)} or the name of an .npz file in "
            f"{data_root}, found {name!r}{did_you_mean(name, NAMES)}"
        )
    arrays = download_dataset(name, data_root)
    dataset = validated_dataset(name, arrays, f"torchvision's download of {name}")
    write_npz(data_root / f"{name}.npz", arrays)
    return dataset


def available_datasets(names: Sequence[str], data_dir: str | None = None) -> list[str]:
    """Those of the named datasets that lie on this machine."""
    data_root = data_folder(data_dir)
    return [name for name in names if local_source(name, data_root) is not None]


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write an .npz file, so that it is never half written."""
    make_folder(path.parent)
    with replacement(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def prepare_dataset(name: str, data_dir: str | None = None) -> Path:
    """Make sure that NAME.npz is in the data folder and passes the checks; returns its path."""
    path = data_folder(data_dir) / f"{name}.npz"
    dataset = load_dataset(name, data_dir)
    if not os.path.exists(path):
        images, labels, train_count = dataset.images, dataset.labels, dataset.train_count
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
        arrays = {
            "x_train": images[:train_count],
            "y_train": labels[:train_count],
            "x_test": images[train_count:],
            "y_test": labels[train_count:],
        }
        write_npz(path, arrays)
    return path


def import_image_folder(name: str, folder: Path, size: int, data_dir: str | None = None) -> Path:
    """Read a folder of image files, see `class_folder_files`, and store it as NAME.npz in the data
    folder; returns the path.

    Raises UserError where the name cannot be used, the file exists, or the folder is not right.
    """
    usable = re.fullmatch(r"[A-Za-z0-9][\w-]{0,99}", name) is not None and name not in NAMES
    domain = "letters, digits, _ and -, and no name of a published dataset"
    require(usable, "NAME", domain, name)
    require(1 <= size <= LARGEST_SIZE, "--size", f"1 to {LARGEST_SIZE} pixels", size)
    path = data_folder(data_dir) / f"{name}.npz"
    if os.path.lexists(path):
        raise DataError(f"{path} exists, and is not replaced: choose another NAME")
    if not folder.is_dir():
        raise DataError(f"{folder} must be a folder of images, found none")
    arrays = read_images(class_folder_files(folder), size, folder)
    validated_dataset(name, arrays, str(folder))
    write_npz(path, arrays)
    return path


def missing_dataset_advice(name: str) -> str:
    """What the user can do to get a dataset that was not found."""
    if name in TORCHVISION:
        return f"`gradalign data prepare {name}` downloads it"
    if name in IMAGE_FOLDERS:
        return f"unpack it in the data folder, as {IMAGE_FOLDERS[name][0]}"
    return f"put {name}.npz with {', '.join(KEYS)} into the data folder"


def dataset_statuses(data_dir: str | None = None) -> list[DatasetStatus]:
    """The status of the published datasets and of all .npz files in the data folder, without a
    download."""
    data_root = data_folder(data_dir)
    user_names = (
        sorted(path.stem for path in data_root.glob("*.npz")) if os.path.isdir(data_root) else []
    )
    names = [*NAMES, *(name for name in user_names if name not in NAMES)]
    return [dataset_status(name, data_root) for name in names]


def dataset_status(name: str, data_root: Path) -> DatasetStatus:
    """Whether a dataset is on this machine and passes the checks."""
    source = local_source(name, data_root)
    if source is None:
        problem = f"not found; {missing_dataset_advice(name)}"
        return DatasetStatus(name, False, problem, 0, 0, 0)
    if source.is_slow:
        advice = f"{source.path}; `gradalign data prepare {name}` reads it once"
        return DatasetStatus(name, False, advice, 0, 0, 0)
    try:
        dataset = validated_dataset(name, source.read(), str(source.path))
    except UserError as error:
        return DatasetStatus(name, False, str(error), 0, 0, 0)
    train, test = dataset.train_count, len(dataset.labels) - dataset.train_count
    shape = dataset.images.shape[1:]
    return DatasetStatus(name, True, str(source.path), train, test, dataset.classes, shape)
