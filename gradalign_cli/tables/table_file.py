"""The yaml of a table, read with bounds: nothing in it is executed, looked up or multiplied."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.errors import UserError
from gradalign_cli.files.reading import read_bounded

LARGEST_TABLE = 2**17  # bytes; the largest that ships has an eighth of it
DEEPEST_ENTRY = 10  # lists and mappings inside each other


def read_table_file(path: Path) -> dict[str, Any]:
    """The entries of a table's yaml. Raises UserError, naming the file, where it is too large, no
    valid yaml, or more than plain entries."""
    try:
        text = read_bounded(path, LARGEST_TABLE).decode()
        check_no_references_in_yaml(text, path)
        entries = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        sentence = " ".join(str(error).split())[:300]
        raise UserError(f"{path} must be valid yaml ({sentence})") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path} must be a mapping, found a list")
    return {str(entry): value for entry, value in entries.items()}


def check_no_references_in_yaml(yaml_text: str, path: Path) -> None:
    """Raise UserError where the text of a yaml has references to other entries, by which a short
    text can become a huge mapping, or is nested too deeply to be read."""
    if "${" in yaml_text:
        raise UserError(f"{path} must have no references to other settings, found ${{")
    depth = 0
    for event in yaml.parse(yaml_text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path} must have no aliases, found *{event.anchor}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST_ENTRY:
            raise UserError(f"{path} must have at most {DEEPEST_ENTRY} entries inside each other")
