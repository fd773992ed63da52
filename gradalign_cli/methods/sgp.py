"""SGP: GPM that removes less of a gradient where it matters little to old tasks (Saha & Roy
2023)."""

from math import inf

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method
from gradalign_cli.methods.subspace import (
    BasisSizeRule,
    RankRule,
    append_columns,
    basis_rank,
    columns_to_add,
    subspace_method,
)
from gradalign_cli.numerics.vectors import ratio_or_zero


def importance_from_singular_values(singular_values: Tensor, scale: float) -> Tensor:
    """The importance [r] of columns with singular values s [r]: (scale + 1) s / (scale s + max s)
    (eq. 4); 0 where all of them are 0."""
    if not len(singular_values):
        return singular_values
    return ratio_or_zero(
        (scale + 1) * singular_values, scale * singular_values + singular_values.max()
    )


def check_scale(scale: float) -> None:
    """Raise UserError for a `scale` that `importance_from_singular_values` cannot take."""
    require(0 <= scale < inf, "method.scale", "non-negative and finite", scale)


def sgp(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: RankRule,
    project_head: bool,
    scale: float,
) -> Method:
    """GPM's bases, but each column is removed from a gradient in proportion to its importance only.

    The importance of a column follows from its singular value. For a column from an earlier task
    that is the square root of the energy of the ended task's inputs along it. The importance adds
    up over tasks, to 1 at most.

    scale: the paper's alpha; the larger it is, the nearer the method is to GPM. The other arguments
    are those of `BasisSizeRule` and `subspace_method`.
    """
    check_scale(scale)

    def grow_basis(
        M: Tensor, importance: Tensor, R: Tensor, threshold: float, one_column_fewer: bool
    ) -> tuple[Tensor, Tensor]:
        rank = basis_rank(M)
        columns, singular_values = columns_to_add(M, R, threshold, one_column_fewer)
        old_singular_values = (M[:, :rank].T @ R).norm(dim=1)
        task_importance = importance_from_singular_values(
            torch.cat([old_singular_values, singular_values]), scale
        )
        old_importance = (importance[:rank] + task_importance[:rank]).clamp(0, 1)
        return append_columns(M, old_importance, columns, task_importance[rank:])

    basis_size_rule = BasisSizeRule(thresholds, increase, rank_rule)
    method = subspace_method(basis_size_rule, samples, project_head, grow_basis)
    return method._replace(claims=("does_not_lengthen",))
