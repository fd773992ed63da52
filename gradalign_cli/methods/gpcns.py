"""GPCNS: gradients in the common null space of the gradients that old tasks ended with (Yang et al.
2024).

The formulas are those of the published code (github.com/Hifipsysta/GPCNS), of the method alone and
not of its combinations with others. There the gradient that a task ended with is that of its last
batch. Here it is taken anew, on examples of the task at the parameters that it is tested with.

Directions with equal singular values have no order. Many have, as each gradient is orthogonal to
what was removed from it. In the code rounding decides which of them are kept; here all are as soon
as one is, so that more is removed: with thresholds near 1 one or two directions a layer, with low
ones many.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.sgp import check_scale, importance_from_singular_values
from gradalign_cli.methods.subspace import (
    BasisSizeRule,
    empty_subspaces,
    layer_matrices,
    projected_layer_widths,
    reduce_by_matrices,
)
from gradalign_cli.models.losses import cross_entropy

ROUNDING = 1e-6  # singular values below this share of the largest, and squares below it, are 0
TIE = 1e-4  # singular values that differ by less than this share are equal


class GPCNSState(NamedTuple):
    """projectors, gradients and span_sums have one entry for each projected layer.

    projectors: [d, d], the part of a gradient that is removed.
    ended_tasks: [] number of tasks that have ended.
    gradients: [n, d] the rows of the layer's gradients at the ends of all tasks.
    span_sums: [d, d] the sum of V V' over the ends of tasks, where V [d, v] are the main directions
    of the gradients stored until then.
    """

    projectors: tuple[Tensor, ...]
    ended_tasks: Tensor
    gradients: tuple[Tensor, ...]
    span_sums: tuple[Tensor, ...]


def main_rank(singular_values: Tensor, threshold: float) -> int:
    """How many of the singular values [n], largest first, have in sum no more than `threshold` of
    the sum of all; and those that equal the last of these."""
    sums = singular_values.cumsum(0)
    rank = int((sums <= threshold * sums[-1:] * (1 + 1e-9)).sum())
    least = singular_values[rank - 1] * (1 - TIE) if rank else torch.inf
    counted = (singular_values >= least) & (singular_values > ROUNDING * singular_values[:1])
    return int(counted.sum())


def main_directions(rows: Tensor, threshold: float) -> Tensor:
    """The first right singular vectors [d, v] of rows [n, d], as many as `main_rank` says."""
    _, singular_values, Vt = torch.linalg.svd(rows.double(), full_matrices=False)
    V: Tensor = Vt[: main_rank(singular_values, threshold)].T
    return V.to(rows.dtype)


def common_projector(span_sum: Tensor, threshold: float, scale: float) -> Tensor:
    """The projector [d, d] for spans with the sum of projectors `span_sum` [d, d].

    With the spans' columns side by side as one matrix, its left singular vectors, as many as
    `main_rank` says, count by the importance that SGP gives to their singular values.
    """
    squares, U = torch.linalg.eigh(span_sum.double())
    singular_values = torch.where(squares > ROUNDING, squares, 0.0).sqrt().flip(0)
    rank = main_rank(singular_values, threshold)
    M = U.flip(1)[:, :rank]
    importance = importance_from_singular_values(singular_values[:rank], scale)
    projector: Tensor = (M * importance) @ M.T
    return projector.to(span_sum.dtype)


def align_off_common_directions(
    gradients: Gradients, state: GPCNSState
) -> tuple[Tensor, GPCNSState]:
    """The `align` of GPCNS: G - G C for the gradient G of each layer with a projector C."""
    direction = reduce_by_matrices(
        gradients.g, gradients.layers, state.projectors, state.ended_tasks
    )
    return direction, state


def gpcns(
    thresholds: list[float], increase: float, samples: int, project_head: bool, scale: float
) -> Method:
    """The gradient of each layer loses its part along the directions that the gradients at the ends
    of old tasks had in common, the more of it the more tasks had a direction.

    At the end of a task its gradient, projected like those of its steps, joins the stored ones, and
    their main directions join the spans of earlier ends. The main directions of all spans are
    removed from gradients, each by an importance that follows from its singular value as in SGP;
    after the first task it is 1.

    thresholds: the directions with the largest singular values are kept, as many as have in sum no
    more than this share of the sum of all. That may be none: where a gradient has one direction
    alone, as that of a head with two logits has, it is kept with a threshold of 1 only. One number
    for each projected layer, or one for all.
    increase: added to the thresholds for each earlier task.
    samples: how many examples of the ended task its gradient is taken on.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    scale: the importance of a direction with the singular value s is (scale + 1) s / (scale s + the
    largest); the larger the scale, the nearer it is to 1 for all.
    """
    basis_size_rule = BasisSizeRule(thresholds, increase, "strict")
    basis_size_rule.check()
    require(samples > 0, "method.samples", "positive", samples)
    check_scale(scale)

    def init(setup: MethodSetup) -> GPCNSState:
        _, _, ended_tasks = empty_subspaces(setup, basis_size_rule, project_head)
        zeros, widths = setup.params.new_zeros, projected_layer_widths(setup, project_head)
        return GPCNSState(
            tuple(zeros(d, d) for d in widths),
            ended_tasks,
            tuple(zeros(0, d) for d in widths),
            tuple(zeros(d, d) for d in widths),
        )

    def end_task(state: GPCNSState, params: Tensor, probe: Probe) -> GPCNSState:
        g = probe.mean_gradient(cross_entropy, probe.rows[:samples])
        g = reduce_by_matrices(g, probe.layers, state.projectors, state.ended_tasks)
        matrices = layer_matrices(g, probe.layers)
        projectors, gradients, span_sums = [], [], []
        for k, span_sum in enumerate(state.span_sums):
            threshold = basis_size_rule.threshold(k, probe.task)
            gradients.append(torch.cat([state.gradients[k], matrices[k]]))
            V = main_directions(gradients[k], threshold)
            span_sums.append(span_sum + V @ V.T)
            share = threshold if probe.task else 1.0  # of one task all directions count
            projectors.append(common_projector(span_sums[k], share, scale))
        ended_tasks = state.ended_tasks + 1
        return GPCNSState(tuple(projectors), ended_tasks, tuple(gradients), tuple(span_sums))

    return Method(
        align_off_common_directions,
        init=init,
        end_task=end_task,
        align_accepts_updates=True,
        claims=("does_not_lengthen",),
    )
