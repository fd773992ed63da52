"""Idx files, the format in which MNIST was published, gzipped or not."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from gradalign_cli.data.dataset import Arrays
from gradalign_cli.errors import DataError
from gradalign_cli.files.reading import open_regular

LARGEST = 2**28  # bytes; MNIST's training images have 47 million


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file, gzipped where its name says so. Raises DataError, naming the file,
    where it is damaged or too large."""
    try:
        with open_regular(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
            if zeros or kind != 8 or not 1 <= dimensions <= 4:
                raise DataError(f"{path} must be an idx file of bytes")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            size = math.prod(shape)
            if size > LARGEST:
                raise DataError(f"{path} must have at most {LARGEST} bytes, its header says {size}")
            content = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is damaged or not an idx file ({error})") from error
    if len(content) != size:
        found = "more" if len(content) > size else len(content)
        raise DataError(f"{path} must have {size} bytes for its shape {list(shape)}, found {found}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_idx_folder(folder: Path, train_prefix: str = "train", test_prefix: str = "t10k") -> Arrays:
    """The arrays of a folder that holds the four files of MNIST, or of a dataset like it, under the
    names they were published with. Raises DataError, naming the file that is missing or damaged.

    train_prefix, test_prefix: what the names of the files of each part begin with.
    """
    arrays = {}
    for part, prefix in (("train", train_prefix), ("test", test_prefix)):
        for key, kind in ((f"x_{part}", "images-idx3"), (f"y_{part}", "labels-idx1")):
            plain = folder / f"{prefix}-{kind}-ubyte"
            packed = plain.with_name(f"{plain.name}.gz")
            arrays[key] = read_idx(packed if packed.exists() and not plain.exists() else plain)
    return arrays
