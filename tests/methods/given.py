"""What a method is given, without a network around it."""

import torch

from gradalign_cli.methods.method import Gradients, MethodSetup
from gradalign_cli.models.model import Layer


def given(g, refs, seen=None, loss=1.0, ref_losses=None, layers=None, seed=0):
    """Gradients of a batch [P] and of memories [M, P] in one layer, all of them seen."""
    count = len(refs)
    seen = torch.ones(count, dtype=torch.bool) if seen is None else seen
    ref_losses = g.new_ones(count) if ref_losses is None else g.new_tensor(ref_losses)
    source = torch.Generator().manual_seed(seed)
    uniform = torch.rand((count + 1) ** 2, generator=source, dtype=g.dtype)
    layers = tuple(Layer(size, 0, False) for size in layers or (len(g),))
    return Gradients(g, refs, seen, g.new_tensor(loss), ref_losses, uniform, layers)


def setting(params, tasks, layers=(), outputs=2):
    """What a method is set up for."""
    return MethodSetup(params, tasks, outputs, layers)


def align(method, g, refs, **changed):
    """The direction a method takes."""
    return method.align(given(g, refs, **changed), method.init(setting(g, len(refs) + 1)))[0]
