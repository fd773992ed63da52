"""Flat vectors: all tensors of a network as one vector `[P]`, and gradients taken of it."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.trees import tree_map

Shapes = Sequence[tuple[int, ...]]
Gradient = Callable[..., tuple[Tensor, tuple[Tensor, Any]]]


def unravel(flat: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views of a flat vector `[P]` in the given shapes; one split, whose backward is one cat."""
    pieces = flat.split(sizes_of(tuple(shapes)))
    return [
        piece if len(shape) == 1 else piece.view(shape)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


@cache
def sizes_of(shapes: tuple[tuple[int, ...], ...]) -> list[int]:
    """How many entries each shape has."""
    return [math.prod(shape) for shape in shapes]


def ravel(tensors: Sequence[Tensor]) -> Tensor:
    """One vector `[P]` of all entries of `tensors`, in their order."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def autograd_gradient(loss: Callable[..., tuple[Tensor, Any]]) -> Gradient:
    """Gradient of `loss(params, ...) -> (value, extra)` by plain autograd.

    Returns a function giving `(gradient [P], (value, extra))`, as `torch.func.grad_and_value`
    with `has_aux` does, without its cost of dispatch. It cannot run under `vmap`.
    """

    def gradient(params: Tensor, *rest: Any) -> tuple[Tensor, tuple[Tensor, Any]]:
        leaf = params.detach().requires_grad_()
        with torch.enable_grad():
            value, extra = loss(leaf, *rest)
        (g,) = torch.autograd.grad(value, leaf)
        return g, (value.detach(), tree_map(Tensor.detach, extra))

    return gradient


def functional_gradient(loss: Callable[..., tuple[Tensor, Any]]) -> Gradient:
    """The same gradient by `torch.func`, for use inside `vmap`."""
    return torch.func.grad_and_value(loss, has_aux=True)
