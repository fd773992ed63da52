"""GPM: gradients orthogonal to the inputs that old tasks give each layer (Saha et al. 2021,
alg. 1)."""

import torch
from torch import Tensor

from gradalign_cli.methods.method import Method
from gradalign_cli.methods.subspace import (
    BasisSizeRule,
    RankRule,
    append_columns,
    columns_to_add,
    subspace_method,
)


def gpm(
    thresholds: list[float], increase: float, samples: int, rank_rule: RankRule, project_head: bool
) -> Method:
    """Each layer has a basis of the inputs of old tasks, and its gradient is projected to be
    orthogonal to the basis.

    When a task has ended, columns for its inputs are added to the bases. The arguments are those of
    `BasisSizeRule` and `subspace_method`.
    """

    def grow_basis(
        M: Tensor, importance: Tensor, R: Tensor, threshold: float, one_column_fewer: bool
    ) -> tuple[Tensor, Tensor]:
        columns, _ = columns_to_add(M, R, threshold, one_column_fewer)
        return append_columns(M, importance, columns, torch.ones_like(columns[0]))

    basis_size_rule = BasisSizeRule(thresholds, increase, rank_rule)
    method = subspace_method(basis_size_rule, samples, project_head, grow_basis)
    return method._replace(claims=("does_not_lengthen", "projects_orthogonally"))
