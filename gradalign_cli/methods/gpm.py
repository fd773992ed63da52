"""GPM: stay orthogonal to the inputs that old tasks gave each layer (Saha et al. 2021, alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.subspace import Rule, append, columns_to_add, subspace_method


def gpm(
    thresholds: list[float], increase: float, samples: int, rank_rule: str, project_head: bool
) -> Method:
    """When a task has ended, the inputs it gives each layer join a basis; later gradients are kept
    orthogonal to it. The arguments are those of `Rule` and `subspace_method`.
    """

    def grow(
        M: Tensor, weight: Tensor, R: Tensor, threshold: float, drop: bool
    ) -> tuple[Tensor, Tensor]:
        new, _ = columns_to_add(M, R, threshold, drop)
        return append(M, weight, new, torch.ones_like(new[0]))

    return subspace_method(Rule(thresholds, increase, rank_rule), samples, project_head, grow)
