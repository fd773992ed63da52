"""SGP: GPM that lets a gradient keep what matters little to old tasks (Saha & Roy 2023)."""

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method
from gradalign_cli.methods.subspace import (
    Rule,
    append,
    columns_held,
    columns_to_add,
    subspace_method,
)


def scaled(values: Tensor, scale: float) -> Tensor:
    """Importance [r] of singular values s [r]: (scale + 1) s / (scale s + max s) (eq. 4)."""
    if not len(values):
        return values
    return (scale + 1) * values / (scale * values + values.max())


def sgp(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: str,
    project_head: bool,
    scale: float,
) -> Method:
    """GPM's bases, each column removed from a gradient in proportion to its importance.

    scale: the paper's alpha; infinite scale is GPM. A column's singular value in a later task is
    the energy that this task's inputs put along it; importance adds up over tasks, to 1 at most.
    """
    require(scale >= 0, "method.scale", "non-negative", scale)

    def grow(
        M: Tensor, weight: Tensor, R: Tensor, threshold: float, drop: bool
    ) -> tuple[Tensor, Tensor]:
        held = columns_held(M)
        new, values = columns_to_add(M, R, threshold, drop)
        again = (M[:, :held].T @ R).norm(dim=1)  # sqrt of the energy along each old column
        both = scaled(torch.cat([again, values]), scale)
        older = (weight[:held] + both[:held]).clamp(0, 1)
        return append(M, torch.cat([older, weight[held:]]), new, both[held:])

    return subspace_method(Rule(thresholds, increase, rank_rule), samples, project_head, grow)
