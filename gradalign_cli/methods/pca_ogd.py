"""PCA-OGD: OGD on the main directions of many old answers' gradients (Doan et al. 2021)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, Probe
from gradalign_cli.methods.ogd import of_label, spanning


def main_directions(vectors: Tensor, count: int) -> Tensor:
    """Orthonormal rows [<= count, P]: the first right singular vectors of `vectors` [n, P]."""
    _, U = torch.linalg.eigh((vectors @ vectors.T).double())
    U = U.flip(1)[:, :count].to(vectors.dtype)  # from the largest eigenvalue on
    return normalize(U.T @ vectors, dim=1)


def pca_ogd(per_task: int, samples: int) -> Method:
    """g less its part in the span of the main directions of the gradients of right logits (arXiv
    2010.04003, alg. 1, without a mean taken away).

    per_task: directions stored when a task has ended; samples: gradients they are made of.
    """
    require(per_task > 0, "method.per_task", "positive", per_task)
    require(samples >= per_task, "method.samples", "at least method.per_task", samples)

    def directions(probe: Probe) -> Tensor:
        return main_directions(probe.sample_gradients(of_label, probe.rows[:samples]), per_task)

    return spanning(per_task, directions)
