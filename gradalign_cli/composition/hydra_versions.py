"""What Hydra 1.3 has to be told and its successors do not take, and the other way round."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import hydra
from omegaconf import OmegaConf

from gradalign_cli.composition.trusted import (
    TRUSTED_FORMATTERS,
    TRUSTED_HANDLERS,
    TRUSTED_TARGETS,
)

# which behaviour is wanted, as an argument; since 1.4 there is only this one
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def set_version_base() -> None:
    """Let Hydra behave as `VERSION_BASE` says, where it is used without an entry of its own."""
    for version in VERSION_BASE.values():
        hydra.version.setbase(version)


def register_resolver(name: str, resolver: Callable[..., Any], *, use_cache: bool = False) -> None:
    """Let configs say `${name:...}`."""
    # the name that OmegaConf gave it in 2.4 was that of another function before
    register: Callable[..., None] = getattr(
        OmegaConf, "register_new_resolver" if VERSION_BASE else "register_resolver"
    )
    register(name, resolver, replace=True, use_cache=use_cache)


def trusted_targets() -> AbstractContextManager[Any]:
    """A context in which Hydra makes what a checked entry may name; since 1.4 it asks for one."""
    whitelist = getattr(hydra.utils, "execution_whitelist", None)
    if not whitelist:
        return nullcontext()
    names = (*TRUSTED_TARGETS, *TRUSTED_HANDLERS, *TRUSTED_FORMATTERS)
    trusted: AbstractContextManager[Any] = whitelist(
        [f"{name}*" if name.endswith(".") else name for name in names]
    )
    return trusted
