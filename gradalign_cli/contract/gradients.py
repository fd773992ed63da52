"""Gradients to try a method's `align` on, made without a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.models.model import Layer


def make_gradients(
    g: Tensor,
    references: Tensor,
    available: Tensor | None = None,
    loss: float = 1.0,
    reference_losses: Sequence[float] | None = None,
    layer_sizes: Sequence[int] = (),
    seed: int = 0,
) -> Gradients:
    """`Gradients` of g [P] and references [M, P]; by default one layer, and all are available.

    available: [M] whether the memory holds something for each;  reference_losses: M numbers;
    layer_sizes: the parts of P;  seed: of the random numbers.
    """
    count = len(references)
    available = torch.ones(count, dtype=torch.bool) if available is None else available
    losses = g.new_ones(count) if reference_losses is None else g.new_tensor(reference_losses)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand((count + 1) ** 2, generator=generator, dtype=g.dtype)
    layers = tuple(Layer(size, 0, False) for size in layer_sizes or (len(g),))
    return Gradients(g, references, available, g.new_tensor(loss), losses, uniform, layers)


def random_gradients(
    method: Method, layers: tuple[Layer, ...], dtype: torch.dtype, seed: int = 0
) -> Gradients:
    """Random gradients in these layers, with as many references as the method has after two
    tasks."""
    generator = torch.Generator().manual_seed(seed)
    count, size = method.reference_count(2), sum(layer.size for layer in layers)
    g, *references = torch.randn(1 + count, size, generator=generator, dtype=dtype)
    rows = torch.stack(references) if count else g.new_zeros(0, size)
    gradients = make_gradients(g, rows, reference_losses=[0.5] * count, seed=seed)
    return gradients._replace(layers=layers)


def hard_gradients(usual: Gradients) -> dict[str, Gradients]:
    """The usual gradients and, by what is special of them, others made of these."""
    opposed = -usual.g.expand_as(usual.references).clone()
    without_memory = usual._replace(
        references=0 * usual.references, available=torch.zeros_like(usual.available)
    )
    return {
        "random gradients": usual,
        "references opposed to the gradient": usual._replace(references=opposed),
        "references that are zero": usual._replace(references=0 * usual.references),
        "a memory that holds nothing": without_memory,
        "a gradient that is zero": usual._replace(g=0 * usual.g),
        "gradients and losses that are zero": usual._replace(
            g=0 * usual.g, references=0 * usual.references, loss=0 * usual.loss
        ),
    }
