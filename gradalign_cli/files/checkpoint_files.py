"""Files of checkpoints: numbered, written whole or not at all, the last two of them kept.

A file is in the format of safetensors; a text stands in its header beside the tensors. Nothing in
it is executed when it is read. A checksum of text and tensors tells a damaged file.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gradalign_cli.errors import UserError, os_errors_as_sentences
from gradalign_cli.files.reading import open_regular
from gradalign_cli.files.writing import replacement

NAME = re.compile(r"checkpoint\.(\d{6,})\.safetensors")
UNFINISHED_NAME = re.compile(NAME.pattern + r"\.[0-9a-f]{8}\.partial")  # while it is written
FILES_TO_KEEP = 2
LENGTH_BYTES = 8  # of the header's length, with which a file begins


class CheckpointContent(NamedTuple):
    """What a checkpoint holds: JSON, and tensors by name."""

    json_text: str
    tensors: dict[str, Tensor]


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    numbers = {
        int(match[1]): path
        for path in folder.glob("checkpoint.*.safetensors")
        if (match := NAME.fullmatch(path.name))
    }
    return [numbers[number] for number in sorted(numbers, reverse=True)]


def write_checkpoint(folder: Path, content: CheckpointContent) -> None:
    """Write a new checkpoint into a folder, then remove all but the last two. Raises UserError
    where the system cannot write; earlier ones then stay."""
    earlier = checkpoint_files(folder)
    match = NAME.fullmatch(earlier[0].name) if earlier else None
    number = int(match[1]) + 1 if match else 1
    metadata = {"text": content.json_text, "checksum": checksum(content)}
    with replacement(folder / f"checkpoint.{number:06}.safetensors") as file:
        file.write(save(content.tensors, metadata))
    for path in earlier[FILES_TO_KEEP - 1 :]:
        with os_errors_as_sentences("remove", path):
            path.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> CheckpointContent:
    """The content of a checkpoint. Raises UserError where it is damaged."""
    with open_regular(path) as file, os_errors_as_sentences("read", path):
        file_bytes = file.read()
    try:
        tensors = load(file_bytes)
        length = int.from_bytes(file_bytes[:LENGTH_BYTES], "little")
        header = json.loads(file_bytes[LENGTH_BYTES : LENGTH_BYTES + length])
        metadata = header.get("__metadata__", {})
        content = CheckpointContent(str(metadata.get("text")), tensors)
    except (SafetensorError, ValueError, KeyError, RecursionError, RuntimeError) as error:
        raise UserError(f"{path} is damaged") from error
    if metadata.get("checksum") != checksum(content):
        raise UserError(f"{path} is damaged")
    return content


def checksum(content: CheckpointContent) -> str:
    """A hash of the text and of the tensors' names, types, shapes and numbers."""
    digest = hashlib.blake2b(content.json_text.encode(), digest_size=16)
    for name, tensor in sorted(content.tensors.items()):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(as_bytes(tensor))
    return digest.hexdigest()


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, in order."""
    numbers: np.ndarray = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return numbers.data


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a folder, and what was to become one."""
    remove_unfinished_checkpoints(folder)
    for path in checkpoint_files(folder):
        with os_errors_as_sentences("remove", path):
            path.unlink(missing_ok=True)


def remove_unfinished_checkpoints(folder: Path) -> None:
    """Remove what was to become a checkpoint when a run was killed."""
    for path in folder.glob("checkpoint.*.partial"):
        if UNFINISHED_NAME.fullmatch(path.name):
            with os_errors_as_sentences("remove", path):
                path.unlink(missing_ok=True)
