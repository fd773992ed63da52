"""The arguments of a method's functions, made without a network."""

import torch

from gradalign_cli.methods.method import Gradients, MethodSetup
from gradalign_cli.models.model import Layer


def make_gradients(
    g, references, available=None, loss=1.0, reference_losses=None, layer_sizes=None, seed=0
):
    """`Gradients` of g [P] and references [M, P]; by default one layer, and all are available."""
    count = len(references)
    available = torch.ones(count, dtype=torch.bool) if available is None else available
    reference_losses = (
        g.new_ones(count) if reference_losses is None else g.new_tensor(reference_losses)
    )
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand((count + 1) ** 2, generator=generator, dtype=g.dtype)
    layers = tuple(Layer(size, 0, False) for size in layer_sizes or (len(g),))
    return Gradients(
        g, references, available, g.new_tensor(loss), reference_losses, uniform, layers
    )


def make_setup(params, tasks, layers=(), outputs=2):
    """The `MethodSetup` of a network with these parameters."""
    return MethodSetup(params, tasks, outputs, layers)


def align(method, g, references, **options):
    """The direction [P] of a method in its initial state; options: those of `make_gradients`."""
    gradients = make_gradients(g, references, **options)
    return method.align(gradients, method.init(make_setup(g, len(references) + 1)))[0]
