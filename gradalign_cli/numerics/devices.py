"""Moving trees of tensors to a device, and the default device of new tensors."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gradalign_cli.numerics.trees import Tree, tree_map

CPU = torch.device("cpu")


def to_device(tree: Tree, device: torch.device) -> Tree:
    """The tree with all its tensors on a device."""
    return tree_map(lambda tensor: tensor.to(device), tree)


def default_device(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which new tensors are on `device`. For a CPU it does nothing, as PyTorch's
    context would slow down every operation."""
    return nullcontext() if device == CPU else device
