"""A-GEM in each layer by itself: only the layers whose gradients conflict are projected."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.agem import project
from gradalign_cli.methods.method import Gradients, Method


def project_layers(g: Tensor, r: Tensor, layer_sizes: list[int]) -> Tensor:
    """A-GEM's projection of each layer's part of g [P] against the same part of r [P]."""
    parts = zip(g.split(layer_sizes), r.split(layer_sizes), strict=True)
    return torch.cat([project(g_part, r_part) for g_part, r_part in parts])


def agem_layerwise() -> Method:
    """A-GEM's projection in each layer by itself.

    The dot product with the reference is then non-negative in every layer, which is stricter than
    a non-negative sum over the layers.
    """

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        layer_sizes = [layer.size for layer in gradients.layers]
        return project_layers(gradients.g, gradients.references[0], layer_sizes), state

    return Method(
        align,
        references="pooled",
        claims=("hurts_no_reference", "does_not_lengthen", "projects_orthogonally"),
        align_accepts_updates=True,
    )
