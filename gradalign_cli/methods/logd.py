"""LOGD: in each layer, leave what is special to old tasks alone and do not hurt what they share
(Tang et al. 2021, arXiv 2105.07561)."""

from typing import Any

import torch
from torch import Tensor

from gradalign_cli.methods.agem import project
from gradalign_cli.methods.method import Gradients, Method
from gradalign_cli.numerics.spectral import eigen, inverses


def decompose(g: Tensor, refs: Tensor, seen: Tensor) -> Tensor:
    """g without its part in the span of refs [M, P] minus their mean, and without harm to the mean.

    P is the projection off the span. P g is kept where its product with the mean is not negative;
    else its component along the mean's own part off the span goes too. That last step is derived
    from the paper's demand to be orthogonal to both; the paper's optional PCA is left out.
    """
    count = seen.sum().clamp_min(1)
    mean = refs.sum(0) / count
    special = torch.where(seen[:, None], refs - mean, 0.0)
    gram = (special @ special.T).double()
    values, vectors = eigen(gram)
    inverse = inverses(values, 1e-10 * values[-1].clamp_min(torch.finfo(gram.dtype).tiny))

    def off(x: Tensor) -> Tensor:
        along: Tensor = vectors @ (inverse * (vectors.T @ (special @ x).double()))
        return x - along.to(x.dtype) @ special

    return project(off(g), off(mean))


def logd() -> Method:
    """The parts special to the old tasks are the differences of their gradients to the mean."""

    def align(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
        layers = [layer.size for layer in gradients.layers]
        parts = zip(gradients.g.split(layers), gradients.references.split(layers, 1), strict=True)
        return torch.cat([decompose(g, refs, gradients.available) for g, refs in parts]), state

    return Method(align, references="per_task")
