"""Bounds for a yaml file, before it is read as a config."""

from pathlib import Path

import yaml

from gradalign_cli.errors import UserError
from gradalign_cli.files.reading import read_bounded

LARGEST_FILE = 2**20  # bytes
MOST_VALUES = 10_000  # of a file, with the values that aliases repeat
PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
}
# the parser in C has bounds of its own on depth, and takes a tenth of the time
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml(path: Path) -> None:
    """Raise UserError unless the path is a regular file of plain yaml within the bounds."""
    content = read_bounded(path, LARGEST_FILE)
    try:
        root = yaml.compose(content, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path} must be valid yaml ({error.problem}, line {line})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} must be valid yaml ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise UserError(f"{path} must not be nested so deeply") from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path} must hold settings with values, such as batch_size: 20")
    if count_values(path, root, {}) > MOST_VALUES:
        raise UserError(f"{path} must hold at most {MOST_VALUES} values, found more")


def count_values(path: Path, node: yaml.Node, count_of_node_id: dict[int, int]) -> int:
    """How many values a node has once its aliases are written out.

    count_of_node_id: those of the nodes that were counted before. Raises UserError where a tag asks
    for an object that is no plain value.
    """
    if id(node) in count_of_node_id:
        return count_of_node_id[id(node)]
    if node.tag not in PLAIN_TAGS:
        line = node.start_mark.line + 1
        raise UserError(f"{path} must hold plain values, found the tag {node.tag} in line {line}")
    count_of_node_id[id(node)] = MOST_VALUES + 1  # an alias of what it stands in has no end
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    count_of_node_id[id(node)] = 1 + sum(
        count_values(path, child, count_of_node_id) for child in children
    )
    return count_of_node_id[id(node)]
