"""Flat vectors: all tensors of a network as one vector [P], and gradients with respect to it."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import tree_map

Shapes = Sequence[tuple[int, ...]]
# (params [P], ...) -> (gradient [P], (value [], aux))
GradientAndValueFunction = Callable[..., tuple[Tensor, tuple[Tensor, Any]]]


def split_vector(flat: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views of a flat vector [P] in the given shapes; one split, whose backward is one cat."""
    pieces = flat.split(entry_counts(tuple(shapes)))
    return [
        piece if len(shape) == 1 else piece.view(shape)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


@cache
def entry_counts(shapes: tuple[tuple[int, ...], ...]) -> list[int]:
    """The number of entries of a tensor of each shape."""
    return [math.prod(shape) for shape in shapes]


def flatten_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """One vector [P] of all entries of `tensors`, in their order."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def autograd_gradient_and_value(
    function: Callable[..., tuple[Tensor, Any]],
) -> GradientAndValueFunction:
    """The gradient of `function(params, ...) -> (value, aux)` by plain autograd.

    Like `torch.func.grad_and_value` with `has_aux`, it returns a function that gives
    `(gradient [P], (value, aux))`, but without the cost of torch.func's dispatch. It does not work
    under `vmap`.
    """

    def gradient(params: Tensor, *arguments: Any) -> tuple[Tensor, tuple[Tensor, Any]]:
        leaf = params.detach().requires_grad_()
        with torch.enable_grad():
            value, aux = function(leaf, *arguments)
        (g,) = torch.autograd.grad(value, leaf)
        return g, (value.detach(), tree_map(Tensor.detach, aux))

    return gradient


def functional_gradient(function: Callable[..., tuple[Tensor, Any]]) -> GradientAndValueFunction:
    """The same as `autograd_gradient_and_value` by `torch.func`, which works under `vmap`."""
    return torch.func.grad_and_value(function, has_aux=True)


def ratio_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is not positive."""
    divisor = torch.where(denominator > 0, denominator, 1.0)
    return torch.where(denominator > 0, numerator / divisor, 0.0)


def divide_by_largest_entry(vectors: Tensor) -> Tensor:
    """Vectors [..., P], each over its largest absolute entry; 0 stays 0."""
    largest = torch.maximum(vectors.amax(-1, keepdim=True), -vectors.amin(-1, keepdim=True))
    return vectors / largest.clamp_min(torch.finfo(vectors.dtype).tiny)


def mean_over_rows(row_indices: Tensor, vectors_of_rows: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean [P] over rows [n] of `vectors_of_rows(row_indices)` [n, P], for 64 rows at a time.

    Only the sum of a piece is kept: small blocks that stay among large freed ones would keep the
    large ones from being used again (allocator.py).
    """
    first_piece, *pieces = row_indices.split(64)
    total = vectors_of_rows(first_piece).sum(0)
    for piece in pieces:
        total += vectors_of_rows(piece).sum(0)
    return total / len(row_indices)
