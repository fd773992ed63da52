"""gradalign: what to do with a gradient that hurts the old tasks."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """What is imported only where it is used, as it brings PyTorch along."""
    if name == "load":
        return import_module("gradalign_cli.composition.finished_run").load
    raise AttributeError(f"module 'gradalign_cli' has no attribute {name!r}")
