"""LOGD: in each layer, remove the part of the gradient that is specific to single old tasks, and do
not hurt the part that they share (Tang et al. 2021, arXiv 2105.07561)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.agem import project
from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.spectral import eigh, pseudo_inverse_eigenvalues
from gradalign_cli.numerics.vectors import divide_by_largest_entry


def project_layer(g: Tensor, references: Tensor, available: Tensor) -> Tensor:
    """The direction [P] for one layer with the gradient g [P] and the references [M, P], of which
    some are available [M].

    The shared gradient is the mean of the references, and the specific gradients are their
    differences from it. First g is projected off the span of the specific gradients. The result is
    kept where its product with the mean is not negative. Else it is also projected off the mean,
    which is itself projected off the span before. This last step is derived from the paper's
    requirement of orthogonality to both. The paper's optional PCA is left out.
    """
    g64, references = g.double(), references.double()
    mean = references.sum(0) / available.sum().clamp_min(1)
    rounding = len(references) * torch.finfo(g.dtype).eps
    specific = torch.where(available[:, None], references - mean, 0.0)
    # a difference as small as the rounding of the references has no direction
    largest = references.abs().amax(1, keepdim=True)
    specific = torch.where(specific.abs().amax(1, keepdim=True) > rounding * largest, specific, 0.0)
    specific = divide_by_largest_entry(specific)
    specific = specific / specific.norm(dim=1, keepdim=True).clamp_min(1)  # of length 1, or 0
    eigenvalues, eigenvectors = eigh(specific @ specific.T)
    inverse = pseudo_inverse_eigenvalues(eigenvalues, rounding)

    def project_off_specific(vector: Tensor) -> Tensor:
        weights = eigenvectors @ (inverse * (eigenvectors.T @ (specific @ vector)))
        remainder: Tensor = vector - weights @ specific
        return remainder

    shared = project_off_specific(mean)
    # where the mean lies in the span, what is left of it is rounding and has no direction
    is_rounding = shared @ shared <= rounding * (mean @ mean)
    shared = torch.where(is_rounding, 0.0, shared)
    return project(project_off_specific(g64), shared).to(g.dtype)


def logd() -> Method:
    """In each layer, the gradient without its part in the span of the differences between the old
    tasks' gradients and their mean, and without harm to this mean."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        layer_sizes = [layer.size for layer in gradients.layers]
        g_parts = gradients.g.split(layer_sizes)
        reference_parts = gradients.references.split(layer_sizes, 1)
        directions = [
            project_layer(g, references, gradients.available)
            for g, references in zip(g_parts, reference_parts, strict=True)
        ]
        return torch.cat(directions), state

    return Method(
        align,
        references="per_task",
        claims=("hurts_no_reference", "does_not_lengthen", "projects_orthogonally"),
    )
