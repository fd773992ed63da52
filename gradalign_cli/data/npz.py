"""An .npz file with the arrays of a dataset, checked before its arrays take memory."""

import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from gradalign_cli.data.dataset import KEYS, ArrayHeader, Arrays, check_part
from gradalign_cli.data.memory import gibibytes_text, largest_dataset_bytes
from gradalign_cli.errors import DataError
from gradalign_cli.files.reading import open_regular

LONGEST_READ = 2**20  # bytes; numpy and zipfile read arrays in shorter pieces
MEMBERS = 100
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that numpy writes
# where images are smaller by a factor of 100, they say nothing: the file is there to fill memory
LARGEST_RATIO, RATIO_COUNTS_FROM = 100, 2**26
DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    SyntaxError,  # what numpy lets through of a header that is no Python literal
    TokenError,
    TypeError,
)


class FileWithBoundedReads(io.FileIO):
    """A file of which no more than LONGEST_READ bytes can be read at once. The list of a zip's
    members, which zipfile reads at once, cannot be longer."""

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, all there are without a size."""
        everything = size is None or size < 0
        content = super().read(LONGEST_READ + 1 if everything else size) or b""
        if len(content) > LONGEST_READ:
            raise zipfile.BadZipFile("too many members")
        return content


def read_npz(path: Path) -> Arrays:
    """The four arrays of an .npz file.

    Raises UserError, naming the file, where it is damaged or no regular file, an array is missing
    or not what it must be, or memory cannot hold it. The headers of the arrays say all that.
    """
    try:
        with (
            open_regular(path) as file,
            FileWithBoundedReads(os.dup(file.fileno()), "r") as reader,
            zipfile.ZipFile(reader) as archive,
        ):
            members = npz_members(archive, path)
            headers = {key: read_header(archive, members[key], path) for key in KEYS}
            check_arrays_fit_memory(headers, path)
            for part in ("train", "test"):
                check_part(headers, part, str(path))
            return {key: read_array(archive, members[key]) for key in KEYS}
    except DAMAGES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is damaged or not an .npz file ({reason})") from error


def npz_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The member of each of the four arrays; DataError where one is missing or is packed in a way
    that numpy does not write."""
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise DataError(f"{path} must have at most {MEMBERS} members, found {len(infos)}")
    members = {}
    for key in KEYS:
        same_name = [info for info in infos if info.filename == f"{key}.npy"]
        if not same_name:
            raise DataError(f"{path} must hold {', '.join(KEYS)}, {key} is missing")
        if len(same_name) > 1:
            raise DataError(f"{path} must hold {key} once, found it {len(same_name)} times")
        if same_name[0].flag_bits & 1:
            raise DataError(f"{path} must not be encrypted, {key} is")
        if same_name[0].compress_type not in PACKINGS:
            raise DataError(f"{path} must be packed as numpy packs it, {key} is not")
        members[key] = same_name[0]
    return members


def read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> ArrayHeader:
    """The type and shape of an array, which agree with the size of its member in the archive."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise DataError(f"{path}: {name} must be an array of numbers")
        try:
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except MemoryError as error:  # what Python's parser says of very many brackets
            raise DataError(f"{path}: {name} must be an array of numbers") from error
        size = info.file_size - member.tell()
    whole = all(type(length) is int and length >= 0 for length in shape)
    if dtype.hasobject or not whole:
        raise DataError(f"{path}: {name} must be an array of numbers, found {dtype} {list(shape)}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != size:
        raise DataError(
            f"{path}: {name} must have {claimed} bytes for its shape {list(shape)}, found {size}"
        )
    if size > max(RATIO_COUNTS_FROM, LARGEST_RATIO * info.compress_size):
        raise DataError(
            f"{path}: {name} must not be packed to less than 1/{LARGEST_RATIO} of its size, found "
            f"{gibibytes_text(size)} in {info.compress_size} bytes"
        )
    return ArrayHeader(dtype, shape)


def check_arrays_fit_memory(headers: dict[str, ArrayHeader], path: Path) -> None:
    """Raise DataError where the arrays do not fit into memory."""
    size = sum(math.prod(header.shape) * header.dtype.itemsize for header in headers.values())
    bound = largest_dataset_bytes()
    if size > bound:
        raise DataError(
            f"{path} must have at most {gibibytes_text(bound)} of arrays, a third of the memory "
            f"that is free, found {gibibytes_text(size)}"
        )


def read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """The array of a member whose header was checked."""
    with archive.open(info) as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
    return array
