"""Datasets that are folders of image files: read, resized once and brought to arrays of uint8.

The layouts are a folder for each class, that of Tiny-ImageNet (tiny-imagenet-200) and that of
Caltech-UCSD Birds (CUB_200_2011).
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradalign_cli.data.dataset import Arrays
from gradalign_cli.data.memory import gibibytes_text, largest_dataset_bytes
from gradalign_cli.errors import DataError, os_errors_as_sentences
from gradalign_cli.files.reading import open_regular, read_bounded

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "GIF", "WEBP")
MOST_PIXELS = 2**26  # of one image file
LARGEST_LIST = 2**24  # bytes of a text file that lists images
TEST_EVERY = 5  # image of a class, where nothing says which are for testing
TEST_FOLDERS = ("test", "val")


class LabelledFile(NamedTuple):
    """An image file and the number of its class."""

    path: Path
    label: int


class ImageFiles(NamedTuple):
    """The image files to train and to test on."""

    train: list[LabelledFile]
    test: list[LabelledFile]


def class_folder_files(folder: Path) -> ImageFiles:
    """The files of FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE, or `val` for `test`; where
    there is no `train`, of FOLDER/CLASS/IMAGE, of which every fifth by name is for testing.

    Classes are numbered in the order of their names. Raises DataError where a part or a class is
    missing.
    """
    train = folder / "train"
    if not train.is_dir():
        files = labelled_files(folder, class_names(folder))
        test = [file for n, file in enumerate(files) if n % TEST_EVERY == TEST_EVERY - 1]
        return ImageFiles([file for file in files if file not in set(test)], test)
    tests = [folder / name for name in TEST_FOLDERS if (folder / name).is_dir()]
    if not tests:
        raise DataError(f"{folder} must hold `test` or `val` beside `train`, found neither")
    names = class_names(train)
    unknown = [name for name in class_names(tests[0]) if name not in names]
    if unknown:
        raise DataError(f"{tests[0]} must hold classes of {train} alone, found {unknown[0]!r} too")
    return ImageFiles(labelled_files(train, names), labelled_files(tests[0], names))


def class_names(folder: Path) -> list[str]:
    """The names of the folders in a folder. Raises DataError where it has none."""
    with os_errors_as_sentences("read", folder):
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not names:
        raise DataError(f"{folder} must hold a folder of images for each class, found none")
    return names


def labelled_files(folder: Path, class_folder_names: Sequence[str]) -> list[LabelledFile]:
    """The image files in the folders of these classes, those of a class by name."""
    return [
        LabelledFile(path, label)
        for label, name in enumerate(class_folder_names)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in ENDINGS
    ]


def tiny_imagenet_files(folder: Path) -> ImageFiles:
    """The files of Tiny-ImageNet: train/WNID/images/NAME, and val/images/NAME with their classes in
    val/val_annotations.txt. Its `test` has no labels and is left out."""
    names = class_names(folder / "train")
    number = {name: label for label, name in enumerate(names)}
    train = [
        LabelledFile(path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / "train" / name / "images").glob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    listing = folder / "val" / "val_annotations.txt"
    test = []
    for name, wnid, *_ in words_of_lines(listing, 2):
        if wnid not in number:
            raise DataError(f"{listing} must name classes of `train`, found {wnid!r}")
        test.append(LabelledFile(path_inside_folder(folder / "val" / "images", name), number[wnid]))
    return ImageFiles(train, test)


def cub_files(folder: Path) -> ImageFiles:
    """The files of Caltech-UCSD Birds 200-2011, by its lists images.txt, image_class_labels.txt and
    train_test_split.txt, each with a number of an image and what belongs to it."""
    lists = [
        {number: text for number, text, *_ in words_of_lines(folder / f"{name}.txt", 2)}
        for name in ("images", "image_class_labels", "train_test_split")
    ]
    names, labels, is_train = lists
    if not names.keys() == labels.keys() == is_train.keys():
        raise DataError(f"the lists in {folder} must be of the same images")
    files = ImageFiles([], [])
    for number, name in names.items():
        if not labels[number].isdigit() or is_train[number] not in ("0", "1"):
            raise DataError(f"{folder}: image {number} must have a class and 0 or 1 for its part")
        file = LabelledFile(path_inside_folder(folder / "images", name), int(labels[number]) - 1)
        (files.train if is_train[number] == "1" else files.test).append(file)
    return files


def path_inside_folder(folder: Path, listed_name: str) -> Path:
    """The path of a file that a list names. Raises DataError where it leaves the folder."""
    if ".." in Path(listed_name).parts or Path(listed_name).is_absolute():
        raise DataError(f"a list of {folder} must name files in it, found {listed_name!r}")
    return folder / listed_name


def words_of_lines(path: Path, min_words: int) -> Iterator[list[str]]:
    """The words of each line of a text file, at least `min_words`."""
    for line in read_bounded(path, LARGEST_LIST).decode(errors="replace").splitlines():
        words = line.split()
        if len(words) < min_words:
            raise DataError(f"{path} must have {min_words} words in a line, found {line[:80]!r}")
        yield words


def read_images(files: ImageFiles, size: int, folder_for_errors: Path) -> Arrays:
    """The files as arrays, each image resized to size x size pixels and three colours, whatever its
    shape was.

    Raises DataError, naming the file, where an image is missing, damaged or very large, a part is
    empty, or memory cannot hold all.
    """
    total = sum(map(len, files)) * size * size * 3
    bound = largest_dataset_bytes()
    if total > bound:
        raise DataError(
            f"{folder_for_errors} must have at most {gibibytes_text(bound)} of images, a third of "
            f"the memory that is free, found {gibibytes_text(total)} at {size} x {size} pixels: "
            "take a smaller size"
        )
    arrays: Arrays = {}
    for part, part_files in files._asdict().items():
        if not part_files:
            raise DataError(f"{folder_for_errors} must have images to {part} on, found none")
        images = np.empty((len(part_files), size, size, 3), np.uint8)
        for number, file in enumerate(part_files):
            images[number] = read_image(file.path, size)
        labels = np.array([file.label for file in part_files], np.int64)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    return arrays


def read_image(path: Path, size: int) -> np.ndarray:
    """An image file as [size, size, 3] of uint8, by bilinear interpolation with antialiasing."""
    from PIL import Image, UnidentifiedImageError

    try:
        with (
            open_regular(path) as file,
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(file, formats=FORMATS) as image,
        ):
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{path} must have at most {MOST_PIXELS} pixels")
            colours = image.convert("RGB")
            if colours.size != (size, size):
                colours = colours.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(colours, np.uint8)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} must have at most {MOST_PIXELS} pixels") from error
    except UnidentifiedImageError as error:  # which names the stream, not the file
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{path} is no image that can be read: it is no {formats}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is no image that can be read: {reason}") from error
