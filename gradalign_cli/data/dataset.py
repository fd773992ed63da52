"""A dataset in memory, and the checks that its arrays must pass."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gradalign_cli.data.superclasses import CIFAR100_SUPERCLASS
from gradalign_cli.errors import DataError

CHANNELS = (1, 3)  # of grey and of colour images
KEYS = ("x_train", "y_train", "x_test", "y_test")


class Dataset(NamedTuple):
    """images: uint8 [n, channels, height, width], training images first;  labels: int64 [n];
    train_count: how many of the images are for training;  classes: number of classes;
    superclass_of_class: int64 [classes], or None where the dataset has no superclasses.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    train_count: int
    classes: int
    superclass_of_class: np.ndarray | None


class PublishedSize(NamedTuple):
    """image_shape: (height, width[, channels]);  train, test: number of images;  classes: number of
    classes."""

    image_shape: tuple[int, ...]
    train: int
    test: int
    classes: int


PUBLISHED_SIZES = {
    "digits": PublishedSize((8, 8), 1437, 360, 10),
    "mnist": PublishedSize((28, 28), 60000, 10000, 10),
    "fashion_mnist": PublishedSize((28, 28), 60000, 10000, 10),
    "cifar10": PublishedSize((32, 32, 3), 50000, 10000, 10),
    "cifar100": PublishedSize((32, 32, 3), 50000, 10000, 100),
    "svhn": PublishedSize((32, 32, 3), 73257, 26032, 10),
    "kmnist": PublishedSize((28, 28), 60000, 10000, 10),
    "emnist": PublishedSize((28, 28), 112800, 18800, 47),  # its split "balanced"
    "tiny_imagenet": PublishedSize((64, 64, 3), 100000, 10000, 200),
    "cub200": PublishedSize((64, 64, 3), 5994, 5794, 200),
}
NAMES = (*PUBLISHED_SIZES, "notmnist")  # notMNIST has no size, as several splits of it are in use

Arrays = dict[str, np.ndarray]  # by the names in KEYS


class ArrayHeader(NamedTuple):
    """What is known of an array before it is read."""

    dtype: np.dtype
    shape: tuple[int, ...]


def validated_dataset(name: str, arrays: Arrays, source_name: str) -> Dataset:
    """The arrays as a dataset. Raises DataError, naming its source, where shapes, types, labels or
    the published size are wrong."""
    for part in ("train", "test"):
        check_part(arrays, part, source_name)
    train_images, test_images = arrays["x_train"], arrays["x_test"]
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{source_name}: training and test images must have one shape, found "
            f"{list(train_images.shape[1:])} and {list(test_images.shape[1:])}"
        )
    train_labels, test_labels = arrays["y_train"], arrays["y_test"]
    lowest = min(int(train_labels.min()), int(test_labels.min()))
    classes = max(int(train_labels.max()), int(test_labels.max())) + 1
    published = PUBLISHED_SIZES.get(name)
    if published is not None:
        size = PublishedSize(train_images.shape[1:], len(train_images), len(test_images), classes)
        if size != published:
            raise DataError(f"{source_name}: {name} must be {published}, found {size}")
    train_classes = np.unique(train_labels)
    if lowest < 0 or len(train_classes) != classes:
        raise DataError(
            f"{source_name}: labels must be 0 to {classes - 1}, each in the training part, found "
            f"{len(train_classes)} of them and a smallest of {lowest}"
        )
    labels = np.concatenate([train_labels.astype(np.int64), test_labels.astype(np.int64)])
    images = channels_first(np.concatenate([train_images, test_images]))
    superclass_of_class = np.array(CIFAR100_SUPERCLASS) if name == "cifar100" else None
    return Dataset(name, images, labels, len(train_images), classes, superclass_of_class)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Images [n, channels, height, width] of images [n, height, width], [n, height, width,
    channels], or already in the order of the result: the channels are the dimension of 1 or 3, the
    last one if both are."""
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] not in CHANNELS and images.shape[1] in CHANNELS:
        return images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def check_part(arrays: Mapping[str, np.ndarray | ArrayHeader], part: str, source_name: str) -> None:
    """Raise DataError unless part `train` or `test` is uint8 images with a whole number each."""
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    has_form = len(images.shape) == 3 or (
        len(images.shape) == 4 and (images.shape[3] in CHANNELS or images.shape[1] in CHANNELS)
    )
    if images.dtype != np.uint8 or not has_form or 0 in images.shape:
        raise DataError(
            f"{source_name}: x_{part} must be uint8 images, at least one, [n, height, width], or "
            "[n, height, width, channels] or [n, channels, height, width] with 1 or 3 channels, "
            f"found {images.dtype} {list(images.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{source_name}: y_{part} must be one whole number for each of the {images.shape[0]} "
            f"images, found {labels.dtype} {list(labels.shape)}"
        )
