"""What of Hydra's own entry a config may set: nothing that could call a stranger's function."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError

TRUSTED_TARGETS = (
    "hydra._internal.core_plugins.",
    "hydra_plugins.",
    "hydra.experimental.callbacks.LogJobReturnCallback",
    "optuna.samplers.",
    "gradalign_cli.",
)
TRUSTED_HANDLERS = ("logging.StreamHandler", "logging.NullHandler")
TRUSTED_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# of a launcher and a sweeper: commands of the shell, options of sbatch, a cluster whose answers are
# unpickled, a function, a database
TYPED_ENTRIES = {
    "launcher": ("setup", "additional_parameters", "address"),
    "sweeper": ("custom_search_space", "storage"),
}
TRUSTED_FORMATTERS = ("colorlog.ColoredFormatter",)


class TreeEntry(NamedTuple):
    """An entry of a mapping or a list;  path: its dotted name, which ends in `name`."""

    path: str
    name: str
    value: Any


def tree_entries(tree: Any, path: str) -> Iterator[TreeEntry]:
    """Each entry of a tree of mappings and lists that is at this path."""
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for name, value in pairs:
        yield TreeEntry(f"{path}.{name}", str(name), value)
        if isinstance(value, Mapping | list):
            yield from tree_entries(value, f"{path}.{name}")


def entry_of(hydra_entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One of the mappings in Hydra's entry; empty where there is none."""
    entry = hydra_entry.get(name)
    return entry if isinstance(entry, Mapping) else {}


def check_hydra_entry(hydra_entry: Mapping[str, Any], typed_keys: Collection[str]) -> None:
    """Raise UserError where Hydra's entry of a config, with its interpolations as they are, could
    run code that the user did not ask for.

    typed_keys: those of the overrides on the command line, which may choose a launcher, set
    variables of the environment, and name plugins. What a launcher and a sweeper, a callback and a
    logger are must be Hydra's, a plugin's of it, or ours.
    """
    for path, name, value in tree_entries(hydra_entry, "hydra"):
        in_logging = path.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        if name == "_target_":
            trusted = isinstance(value, str) and value.startswith(TRUSTED_TARGETS)
        elif in_logging and name == "class":
            trusted = value in TRUSTED_HANDLERS
        elif in_logging and name == "()":
            trusted = value in TRUSTED_FORMATTERS
        elif in_logging and isinstance(value, str):
            trusted = not value.startswith("ext://") or value in TRUSTED_STREAMS
        else:
            continue
        if not trusted:
            raise UserError(f"`{path}` must be one of Hydra's own, found {value!r}")
    for path, name, _ in tree_entries(entry_of(hydra_entry, "sweeper"), "hydra.sweeper"):
        if re.match(r"[+~]*plugins\b", name):
            raise UserError(f"`{path}` must be given on the command line, not in a config")
    for part, names in TYPED_ENTRIES.items():
        for name in names:
            path = f"hydra.{part}.{name}"
            is_typed = any(typed == path or typed.startswith(f"{path}.") for typed in typed_keys)
            if entry_of(hydra_entry, part).get(name) and not is_typed:
                raise UserError(f"`{path}` must be given on the command line, not in a config")
    launcher = entry_of(hydra_entry, "launcher").get("_target_")
    for key, is_default in (
        ("hydra/launcher", launcher in (None, BASIC_LAUNCHER)),
        ("hydra.job.env_set", not entry_of(hydra_entry, "job").get("env_set")),
    ):
        if not is_default and not any(typed.startswith(key) for typed in typed_keys):
            raise UserError(f"`{key}` must be given on the command line, not in a config")
