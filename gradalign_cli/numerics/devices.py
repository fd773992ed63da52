"""Devices: where tensors are."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gradalign_cli.numerics.trees import Tree, tree_map


def to_device(tree: Tree, device: torch.device) -> Tree:
    """A tree of tensors on a device."""
    return tree_map(lambda tensor: tensor.to(device), tree)


def default_device(device: torch.device) -> AbstractContextManager[Any]:
    """Where tensors are made that name no device; on a CPU saying so would cost every operation."""
    return nullcontext() if device == CPU else device


CPU = torch.device("cpu")
