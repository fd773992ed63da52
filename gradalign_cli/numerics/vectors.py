"""Flat vectors: all tensors of a network as one vector `[P]`, and gradients taken of it."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import tree_map

Shapes = Sequence[tuple[int, ...]]
GradientFunction = Callable[..., tuple[Tensor, tuple[Tensor, Any]]]


def split_vector(flat: Tensor, shapes: Shapes) -> list[Tensor]:
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


def flatten_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """One vector `[P]` of all entries of `tensors`, in their order."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def autograd_gradient(loss: Callable[..., tuple[Tensor, Any]]) -> GradientFunction:
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


def functional_gradient(loss: Callable[..., tuple[Tensor, Any]]) -> GradientFunction:
    """The same gradient by `torch.func`, for use inside `vmap`."""
    return torch.func.grad_and_value(loss, has_aux=True)


def ratio_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0."""
    safe = torch.where(denominator > 0, denominator, 1.0)
    return torch.where(denominator > 0, numerator / safe, 0.0)


def mean_in_pieces(rows: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over rows [n] of `function(rows) [n, P]`, taken for a few rows at a time.

    Nothing is kept of a few but their sum: small blocks among large freed ones would keep those
    from being used again (allocator.py).
    """
    first, *others = rows.split(64)
    total = function(first).sum(0)
    for part in others:
        total += function(part).sum(0)
    return total / len(rows)
