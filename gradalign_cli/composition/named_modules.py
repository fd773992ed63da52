"""The networks that a config may name: of torchvision.models, and of plugins."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch.nn import Module

from gradalign_cli.composition.targets import import_allowed, is_of_plugin
from gradalign_cli.errors import UserError
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.memory_estimate import COPIES
from gradalign_cli.training.memory_needs import MemoryNeed, check_needs

# all that can be named of it builds a network from plain values: see `builds_networks`
TRUSTED_PACKAGE = "torchvision.models"
ADAPTER = "gradalign_cli.models.module.module"


def module_builder_argument(model_config: DictConfig) -> dict[str, Any]:
    """The computed argument of a model that is a module of PyTorch: the function or class `build`
    that its config names as `module`. None for other models.

    Raises UserError where the name is of nothing that builds a module, or of a package that nobody
    trusts.
    """
    if model_config.get("_target_") != ADAPTER:
        return {}
    field, name = "model.module", model_config.get("module")
    if name is None:
        raise UserError(
            f"`{field}` must be the name of a function or class that makes a torch.nn.Module, such "
            "as torchvision.models.resnet18, found none"
        )
    build = import_allowed(field, name, [TRUSTED_PACKAGE])
    can_be_called = inspect.isfunction(build) or inspect.isclass(build)
    if not can_be_called or not (is_of_plugin(str(name)) or builds_networks(build)):
        raise UserError(f"`{field}` must be a function that returns a torch.nn.Module")
    return {"build": memory_checked_builder(build)}


def memory_checked_builder(build: Callable[..., Module]) -> Callable[..., Module]:
    """`build`, which at its first call is tried on PyTorch's meta device, where a network takes no
    memory; UserError where it could not fit. What cannot be built there is built without."""
    tried = False

    def memory_checked_build(**arguments: Any) -> Module:
        nonlocal tried
        if not tried:
            tried = True
            need = MemoryNeed(
                "the network", COPIES * bytes_on_meta(build, arguments), "model.arguments"
            )
            check_needs([need], free_bytes(torch.device("cpu")))
        return build(**arguments)

    return memory_checked_build


def bytes_on_meta(build: Callable[..., Module], arguments: dict[str, Any]) -> int:
    """The bytes of a network's parameters; 0 where it cannot be built without numbers."""
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            return sum(4 * parameter.numel() for parameter in build(**arguments).parameters())
    except (
        Exception,
        SystemExit,
    ):  # of the user's function, called again with numbers
        return 0


def builds_networks(build: Callable[..., Any]) -> bool:
    """Whether something is a class of modules, or a function that says that it returns one."""
    result = build if inspect.isclass(build) else build.__annotations__.get("return")
    return inspect.isclass(result) and issubclass(result, Module)
