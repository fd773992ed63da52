"""A-GEM in each layer: a layer that hurts its memory gradient is projected, the others are not."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.agem import project
from gradalign_cli.methods.method import Gradients, Method


def project_layers(g: Tensor, r: Tensor, layers: list[int]) -> Tensor:
    """A-GEM's projection of each part of g [P] against the same part of r [P]."""
    parts = zip(g.split(layers), r.split(layers), strict=True)
    return torch.cat([project(mine, theirs) for mine, theirs in parts])


def agem_layerwise() -> Method:
    """No dot product of a layer is left negative, which is stricter than their sum."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        layers = [layer.size for layer in gradients.layers]
        return project_layers(gradients.g, gradients.references[0], layers), state

    return Method(align, references="pooled")
