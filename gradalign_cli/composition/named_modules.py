"""The networks that a config may name: of torchvision.models, and of plugins."""

import inspect
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig
from torch.nn import Module

from gradalign_cli.composition.targets import import_allowed, is_of_plugin
from gradalign_cli.errors import UserError

# all that can be named of it builds a network from plain values: see `builds_networks`
TRUSTED_PACKAGE = "torchvision.models"
ADAPTER = "gradalign_cli.models.module.module"


def module_arguments(config: DictConfig) -> dict[str, Any]:
    """The computed argument of a model that is a module of PyTorch: the function or class `build`
    that its config names as `module`. None for other models.

    Raises UserError where the name is of nothing that builds a module, or of a package that nobody
    trusts.
    """
    if config.get("_target_") != ADAPTER:
        return {}
    field, name = "model.module", config.get("module")
    if name is None:
        raise UserError(
            f"`{field}` must be the name of a function or class that makes a torch.nn.Module, such "
            "as torchvision.models.resnet18, found none"
        )
    build = import_allowed(field, name, [TRUSTED_PACKAGE])
    can_be_called = inspect.isfunction(build) or inspect.isclass(build)
    if not can_be_called or not (is_of_plugin(str(name)) or builds_networks(build)):
        raise UserError(f"`{field}` must be a function that returns a torch.nn.Module")
    return {"build": build}


def builds_networks(build: Callable[..., Any]) -> bool:
    """Whether something is a class of modules, or a function that says that it returns one."""
    result = build if inspect.isclass(build) else build.__annotations__.get("return")
    return inspect.isclass(result) and issubclass(result, Module)
