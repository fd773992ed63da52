"""Trees: nested tuples of tensors, stacked and taken apart along a leading replica dimension."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

Absent = tuple[()]  # an optional tensor that is not there; `None` would not pass through vmap
Tree = TypeVar("Tree")  # a tensor, or a tuple or named tuple of trees


def tree_map(function: Callable[..., Any], *trees: Tree) -> Tree:
    """Apply `function` to the corresponding tensors of equally built trees."""
    first: Any = trees[0]
    if isinstance(first, Tensor):
        return cast(Tree, function(*trees))
    parts = [tree_map(function, *parts) for parts in zip(*cast(Any, trees), strict=True)]
    built = type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return cast(Tree, built)


def tree_leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    return [leaf for part in tree for leaf in tree_leaves(part)]


def tree_index(tree: Tree, position: int) -> Tree:
    """Take one entry of the leading dimension of every tensor."""
    return tree_map(lambda tensor: tensor[position], tree)


def tree_stack(trees: Sequence[Tree]) -> Tree:
    """Stack equally built trees along a new leading dimension; a single one is not copied."""
    if len(trees) == 1:
        return tree_map(lambda tensor: tensor[None], trees[0])
    return tree_map(lambda *tensors: torch.stack(tensors), *trees)


def pad_to_common_shapes(trees: Sequence[Tree]) -> list[Tree]:
    """Equally built trees, with zeros behind where a tensor is smaller than that of another."""
    shapes = [
        tuple(map(max, zip(*(tensor.shape for tensor in tensors), strict=True)))
        for tensors in zip(*map(tree_leaves, trees), strict=True)
    ]

    def padded(tree: Tree) -> Tree:
        remaining = iter(shapes)
        return tree_map(lambda tensor: pad_to_shape(tensor, next(remaining)), tree)

    return [padded(tree) for tree in trees]


def pad_to_shape(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor with zeros behind it, up to a shape; itself where it has that shape."""
    if tensor.shape == tuple(shape):
        return tensor
    missing = [large - small for large, small in zip(shape, tensor.shape, strict=True)]
    return pad(tensor, [n for each in reversed(missing) for n in (0, each)])


def take_rows(tensor: Tensor, row_indices: Tensor | int) -> Tensor:
    """tensor[row_indices] along dimension 0, several times faster on a CPU for many rows."""
    if isinstance(row_indices, int):
        return tensor[row_indices]
    if row_indices.ndim == 1:
        return tensor.index_select(0, row_indices)
    return tensor.index_select(0, row_indices.flatten()).view(*row_indices.shape, *tensor.shape[1:])
