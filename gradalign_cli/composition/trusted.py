"""What of Hydra's own entry a config may set: nothing that could call a stranger's function."""

from collections.abc import Iterator, Mapping
from typing import Any

from gradalign_cli.errors import UserError

TRUSTED_TARGETS = (
    "hydra._internal.core_plugins.",
    "hydra_plugins.",
    "hydra.experimental.callbacks.LogJobReturnCallback",
    "gradalign_cli.",
)
TRUSTED_HANDLERS = ("logging.StreamHandler", "logging.NullHandler")
TRUSTED_FORMATTERS = ("colorlog.ColoredFormatter",)


def entries_of(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """The path, name and value of each entry of a tree of mappings and lists."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, value in pairs:
        yield f"{path}.{name}", str(name), value
        if isinstance(value, Mapping | list):
            yield from entries_of(value, f"{path}.{name}")


def check_hydra_entry(hydra_entry: Mapping[str, Any]) -> None:
    """Raise UserError where Hydra's entry of a config, with its interpolations as they are, names
    a function that is not Hydra's, a plugin's of it, or ours; or another logging class than those
    that write to the terminal."""
    for path, name, value in entries_of(hydra_entry, "hydra"):
        in_logging = path.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        if name == "_target_":
            trusted = isinstance(value, str) and value.startswith(TRUSTED_TARGETS)
        elif in_logging and name == "class":
            trusted = value in TRUSTED_HANDLERS
        elif in_logging and name == "()":
            trusted = value in TRUSTED_FORMATTERS
        else:
            continue
        if not trusted:
            raise UserError(f"`{path}` must be one of Hydra's own, found {value!r}")
