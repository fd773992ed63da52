"""Named tuples of tensors, stacked and taken apart along a leading replica dimension."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def tree_map(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to the corresponding tensors of equally built nested tuples."""
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    parts = [tree_map(function, *parts) for parts in zip(*trees, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def stack(trees: Sequence[Any]) -> Any:
    """Stack equally built trees along a new leading dimension; a single one is not copied."""
    if len(trees) == 1:
        return tree_map(lambda tensor: tensor[None], trees[0])
    return tree_map(lambda *tensors: torch.stack(tensors), *trees)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    return [leaf for part in tree for leaf in leaves(part)]


def index(tree: Any, position: int) -> Any:
    """Take one entry of the leading dimension of every tensor."""
    return tree_map(lambda tensor: tensor[position], tree)


def take(field: Tensor, index: Tensor) -> Tensor:
    """field[index] along the first dimension, several times faster on a CPU for many rows."""
    if index.ndim == 1:
        return field.index_select(0, index)
    return field.index_select(0, index.flatten()).view(*index.shape, *field.shape[1:])
