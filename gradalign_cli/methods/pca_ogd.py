"""PCA-OGD: OGD with the principal directions of many stored gradients (Doan et al. 2021)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, Probe
from gradalign_cli.methods.ogd import stored_span_method, target_logit_of_single_example


def principal_directions(vectors: Tensor, count: int) -> Tensor:
    """Orthonormal rows [at most count, P]: the first right singular vectors of vectors [n, P]."""
    _, U = torch.linalg.eigh((vectors @ vectors.T).double())
    U = U.flip(1)[:, :count].to(vectors.dtype)  # the largest eigenvalues come first
    return normalize(U.T @ vectors, dim=1)


def pca_ogd(gradients_per_task: int, samples: int) -> Method:
    """g without its part in the span of the principal directions of the gradients of target logits
    on examples of old tasks (arXiv 2010.04003, alg. 1). No mean is subtracted from the gradients.

    gradients_per_task: the most directions stored of each task.
    samples: how many gradients of a task they are computed from.
    """
    require(gradients_per_task > 0, "method.gradients_per_task", "positive", gradients_per_task)
    require(
        samples >= gradients_per_task,
        "method.samples",
        "at least method.gradients_per_task",
        samples,
    )

    def task_directions(probe: Probe) -> Tensor:
        gradients = probe.sample_gradients(target_logit_of_single_example, probe.rows[:samples])
        return principal_directions(gradients, gradients_per_task)

    return stored_span_method(gradients_per_task, task_directions)
