"""What a user can choose from: the yaml files of a config group, ours and those of a user's folder,
and what these files say of themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.yaml_bounds import LARGEST_FILE
from gradalign_cli.errors import UserError
from gradalign_cli.files.reading import read_bounded


class Choice(NamedTuple):
    """A part that a config group offers.

    name: what a user types;  path: of its yaml;  config_dir: the user's folder that it lies
    in, empty where it is ours;  is_shadowed: whether ours of the same name is taken in its place.
    """

    name: str
    path: Path
    config_dir: str = ""
    is_shadowed: bool = False


def choices_of_group(
    group: str, config_dir: str | None, shipped_conf_folder: Path = CONF
) -> list[Choice]:
    """The choices of a config group: ours by name, then those of the user's folder.

    group: such as "method";  config_dir: the user's folder, as for `gradalign train --config-dir`.
    Raises UserError where there is no such folder.
    """
    choices = [
        Choice(path.stem, path) for path in sorted((shipped_conf_folder / group).glob("*.yaml"))
    ]
    if config_dir is None:
        return choices
    if not Path(config_dir).is_dir():
        raise UserError(f"`--config-dir` must be a folder, found {config_dir!r}")
    names = {choice.name for choice in choices}
    files = sorted((Path(config_dir) / group).glob("*.yaml"))
    return choices + [Choice(p.stem, p, config_dir, p.stem in names) for p in files]


def search_path_overrides(config_dir: str | None, plugin_folders: Sequence[Path] = ()) -> list[str]:
    """What makes Hydra look for parts in the user's folder and in those of plugins too."""
    folders = [*([Path(config_dir).resolve()] if config_dir is not None else []), *plugin_folders]
    texts = ["'file://" + str(folder).replace("'", "\\'") + "'" for folder in folders]
    return [f"hydra.searchpath=[{','.join(texts)}]"] if texts else []


def first_comment(path: Path) -> str:
    """The sentence that a config file opens with, after a line `# @package`."""
    text = read_bounded(path, LARGEST_FILE).decode(errors="replace")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    sentences = [line for line in comments if not line.startswith("# @package")]
    return sentences[0].lstrip("# ") if sentences else ""


def setting_comments(path: Path) -> dict[str, str]:
    """The comment behind each setting of a config file, by its dotted name.

    Raises UserError where the file is no yaml.
    """
    text = read_bounded(path, LARGEST_FILE).decode(errors="replace")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no yaml: {' '.join(str(error).split())}") from error
    comments: dict[str, str] = {}
    if isinstance(root, yaml.MappingNode):
        collect_comments(root, "", text.splitlines(), comments)
    return comments


def collect_comments(
    mapping: yaml.MappingNode, prefix: str, lines: list[str], comments: dict[str, str]
) -> None:
    """Add the comments behind the entries of a mapping and of those inside it.

    prefix: the dotted name of the mapping and a dot;  lines: of the file.
    """
    for key, value in mapping.value:
        in_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if in_block else value.end_mark
        behind = lines[mark.line][mark.column :].lstrip(" :") if mark.line < len(lines) else ""
        if behind.startswith("#"):
            comments[f"{prefix}{key.value}"] = behind.lstrip("# ")
        if isinstance(value, yaml.MappingNode) and in_block:
            collect_comments(value, f"{prefix}{key.value}.", lines, comments)
