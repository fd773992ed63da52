"""Bounds for the yaml files of a folder that the user names, before Hydra reads them."""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from gradalign_cli.errors import UserError, os_errors_as_sentences
from gradalign_cli.files.reading import read_bounded

LARGEST_FILE = 2**20  # bytes
MOST_VALUES = 100_000  # of a file, with the values that aliases repeat
MOST_FILES = 1000


def check_config_folder(folder: Path) -> None:
    """Raise UserError where a folder of configs is none, or where a yaml in it or in a folder of it
    is no regular file, too large, or not valid."""
    if not folder.is_dir():
        raise UserError(f"{folder} must be a folder with configs, found none")
    for number, path in enumerate(yaml_files(folder)):
        if number == MOST_FILES:
            raise UserError(f"{folder} must hold at most {MOST_FILES} yaml files, found more")
        check_yaml(path)


def yaml_files(folder: Path) -> Iterator[Path]:
    """The yaml files of a folder and of the folders in it, which are those that Hydra may read."""
    with os_errors_as_sentences("read", folder):
        for entry in sorted(folder.iterdir()):
            if entry.suffix == ".yaml":
                yield entry
            elif entry.is_dir() and os.access(entry, os.R_OK | os.X_OK):
                yield from sorted(entry.glob("*.yaml"))


def check_yaml(path: Path) -> None:
    """Raise UserError unless the path is a regular file of valid yaml within the bounds."""
    content = read_bounded(path, LARGEST_FILE)
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        values = count_values(root, {}) if root is not None else 0
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} must be valid yaml ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise UserError(f"{path} must not be nested so deeply") from error
    if values > MOST_VALUES:
        raise UserError(f"{path} must hold at most {MOST_VALUES} values, found more")


def count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node has once its aliases are written out.

    counts: those of the nodes that were counted before, by id.
    """
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = MOST_VALUES + 1  # an alias of what it stands in has no end
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    counts[id(node)] = 1 + sum(count_values(child, counts) for child in children)
    return counts[id(node)]
