"""TRGP: GPM that reuses the weights of old tasks which a new task resembles (Lin et al. 2022).

The rules are those of the code published with the paper (github.com/LYang-666/TRGP), with these
departures. The inputs of an ended task are taken at the weights that it is tested with; in the code
its scales are left out. Each layer chooses for itself; in the code no layer is scaled where the
first one trusts no task. And one rule is that of all tasks, where the code for Permuted MNIST has
another for the third. `task_space_and_basis` names one more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
)
from gradalign_cli.methods.scaled_weights import (
    Layers,
    Scaling,
    learn_scaled_weights,
    scale_params,
    store_at_end,
    value_of_task,
)
from gradalign_cli.methods.subspace import (
    BasisSizeRule,
    RankRule,
    basis_rank,
    directions_outside,
    empty_subspaces,
    layer_matrices,
    needed_rank,
    project_off_bases,
    replace_task_tensor,
    representation_matrices,
    require_layer_inputs,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.vectors import ratio_or_zero


class TRGPState(NamedTuple):
    """All but the last two have one entry for each projected layer.

    bases: M [d, v] orthonormal columns of the inputs of all old tasks.
    space_masks: [T, v] 1 for the columns of M that are the input space S of each old task.
    ended_changes: [T, v, v] how each ended task scales the weights, see `Scaling`.
    current_changes: [v, v] how the current task does.
    trust_counts: [v, v] how many of the spaces that the current task trusts have both columns.
    ended_tasks: [] number of tasks that have ended.
    scales_lr: [] hyper-parameter.
    """

    bases: tuple[Tensor, ...]
    space_masks: tuple[Tensor, ...]
    ended_changes: tuple[Tensor, ...]
    current_changes: tuple[Tensor, ...]
    trust_counts: tuple[Tensor, ...]
    ended_tasks: Tensor
    scales_lr: Tensor


def state_without_columns(
    bases: tuple[Tensor, ...], setup: MethodSetup, scales_lr: float
) -> TRGPState:
    """The state before the first task, with these bases [d, 0]."""
    zeros, number, layers = setup.params.new_zeros, setup.params.new_tensor, len(bases)
    matrices = (zeros(0, 0),) * layers
    return TRGPState(
        bases=bases,
        space_masks=(zeros(setup.tasks, 0),) * layers,
        ended_changes=(zeros(setup.tasks, 0, 0),) * layers,
        current_changes=matrices,
        trust_counts=matrices,
        ended_tasks=number(0.0),
        scales_lr=number(scales_lr),
    )


class TrustRule(NamedTuple):
    """Which old tasks a layer trusts (def. 2).

    max_trusted_tasks: how many at most.
    trust_threshold: the share of the norm of the task's first gradient that their input spaces must
    hold.
    """

    max_trusted_tasks: int
    trust_threshold: float

    def check(self) -> None:
        """Raise UserError where a value is out of its domain."""
        tasks, threshold = self
        require(tasks > 0, "method.max_trusted_tasks", "positive", tasks)
        require(0 <= threshold <= 1, "method.trust_threshold", "in [0, 1]", threshold)


def select_trusted_spaces(
    G: Tensor, M: Tensor, space_masks: Tensor, trust_rule: TrustRule
) -> Tensor:
    """The masks [K, v], among those of T tasks [T, v], of the spaces that hold the largest shares
    of the norm of a gradient G [r, d]; 0 in place of those whose share is not above the threshold.
    K is `max_trusted_tasks`, or T where this is smaller."""
    shares = ratio_or_zero((G @ M * space_masks[:, None]).flatten(1).norm(dim=1), G.norm())
    largest = shares.topk(min(trust_rule.max_trusted_tasks, len(shares)))
    is_trusted = largest.values > trust_rule.trust_threshold
    return space_masks[largest.indices] * is_trusted[:, None]


def trust_spaces(state: TRGPState, masks: Sequence[Tensor]) -> TRGPState:
    """The state whose current task scales each layer's weights within the spaces with these masks
    [K, v].

    Each space has scales Q_k of its own, which learn at one rate, and the weights depend on their
    sum alone. So D learns in the place of them, each entry as many times as fast as there are
    spaces with both its columns.
    """
    return state._replace(trust_counts=tuple(mask.T @ mask for mask in masks))


def cross_entropy_gradients(probe: Probe, samples: int) -> list[Tensor]:
    """The gradient [r, d] of each layer with a matrix: that of the mean cross-entropy of `samples`
    examples of the task."""
    g = probe.mean_gradient(cross_entropy, probe.rows[:samples])
    return layer_matrices(g, probe.layers)


def trgp_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: TRGPState
) -> tuple[ObjectiveGradient, TRGPState]:
    """The `find_gradient` of TRGP: at the scaled parameters, and a step of the scales."""
    scalings = list(map(Scaling, state.bases, state.current_changes))
    rates = [state.scales_lr * counts for counts in state.trust_counts]
    objective_gradient, changes = learn_scaled_weights(take_gradient, inputs, scalings, rates)
    return objective_gradient, state._replace(current_changes=changes)


def align_off_bases(gradients: Gradients, state: TRGPState) -> tuple[Tensor, TRGPState]:
    """The `align` of TRGP: g, projected off the inputs of all old tasks."""
    importance = [torch.ones_like(M[0]) for M in state.bases]
    direction = project_off_bases(
        gradients.g, gradients.layers, state.bases, importance, state.ended_tasks
    )
    return direction, state


def task_space_and_basis(
    M: Tensor, R: Tensor, threshold: float, one_column_fewer: bool
) -> tuple[Tensor, Tensor]:
    """A mask [w + r], 1 for the columns that are the input space of a task with the inputs R
    [d, n], of the basis [d, w + r] of all tasks after it, and this basis, from that of the tasks
    before it, M [d, w].

    Candidates for the space are the columns m of M, each with the energy |m' R|^2, and the left
    singular vectors of the part of R outside M, each with its squared singular value. Of these the
    k with the largest energies are the space, so many that they hold `threshold` of the energy of
    R; one fewer if `one_column_fewer`. Those of them that are new are added to M.

    Departure from the published code: by an index that is off by one, that never adds the first of
    the singular vectors to M.
    """
    M = M[:, : basis_rank(M)]
    U, singular_values = directions_outside(M, R)
    old, new = M.shape[1], len(M) - M.shape[1]  # as many columns may be new
    candidates = torch.cat([M, U[:, :new].to(M.dtype)], 1)
    energies = torch.cat([(M.T @ R).double().square().sum(1), singular_values[:new].square()])
    order = energies.argsort(descending=True, stable=True)
    total_energy = float(R.double().square().sum())
    rank = max(
        needed_rank(energies[order].sqrt(), 0.0, total_energy, threshold) - one_column_fewer, 0
    )
    selected = order[:rank]
    new_columns = candidates[:, selected[selected >= old]]
    basis = torch.cat([M, new_columns], 1)
    space_mask = basis.new_ones(basis.shape[1])
    space_mask[:old] = torch.isin(torch.arange(old), selected).to(basis)
    return space_mask, basis


def add_task_space(
    state: TRGPState, R: Sequence[Tensor], basis_size_rule: BasisSizeRule, task: int
) -> TRGPState:
    """The state with the input space of task number `task`, whose inputs are R [d, n] in each
    layer, and bases that hold it."""
    bases, space_masks = [], []
    for number, (M, masks) in enumerate(zip(state.bases, state.space_masks, strict=True)):
        threshold = basis_size_rule.threshold(number, task)
        one_column_fewer = basis_size_rule.one_column_fewer(task)
        space_mask, basis = task_space_and_basis(M, R[number], threshold, one_column_fewer)
        bases.append(basis)  # narrower than M where M was padded to the width of other replicas
        masks = masks[:, : basis.shape[1]]
        space_masks.append(replace_task_tensor(masks, task, space_mask))
    return state._replace(bases=tuple(bases), space_masks=tuple(space_masks))


def end_scaling(state: TRGPState, task: int) -> TRGPState:
    """The state after the end of task number `task`, once the bases have grown: how it scales the
    weights is stored, and the next task begins with the weights as they are."""
    widths = [M.shape[1] for M in state.bases]
    ended_changes, current_changes = (
        tuple(D[..., :v, :v] for D, v in zip(changes, widths, strict=True))
        for changes in (state.ended_changes, state.current_changes)
    )
    zeros = tuple(M.new_zeros(v, v) for M, v in zip(state.bases, widths, strict=True))
    ended, current = store_at_end(ended_changes, current_changes, zeros, task)
    return state._replace(
        ended_changes=ended,
        current_changes=current,
        trust_counts=zeros,
        ended_tasks=state.ended_tasks + 1,
    )


def trgp_test_params(state: TRGPState, params: Tensor, task: int, layers: Layers) -> Tensor:
    """The `test_params` of TRGP: the parameters [P], scaled as the task has learned."""
    changes = value_of_task(state.ended_changes, state.current_changes, state.ended_tasks, task)
    return scale_params(params, layers, list(map(Scaling, state.bases, changes)))


def trgp(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: RankRule,
    project_head: bool,
    max_trusted_tasks: int,
    trust_threshold: float,
    scales_lr: float,
) -> Method:
    """GPM where each task computes with weights that it scales anew within the input spaces of some
    old tasks, those it trusts.

    A task computes with `scale_weights` of the weights and learns the scales; it is tested with
    them. The weights themselves change orthogonally to the inputs of all old tasks.

    max_trusted_tasks, trust_threshold: see `TrustRule`; the threshold is 0.5 in the paper. The
    first gradient is taken on `samples` examples before the task's first step, as in the code
    published with the paper.
    scales_lr: the step size of the scales.
    The others are those of `BasisSizeRule` and `gpm`.
    """
    basis_size_rule = BasisSizeRule(thresholds, increase, rank_rule)
    basis_size_rule.check()
    require(samples > 0, "method.samples", "positive", samples)
    trust_rule = TrustRule(max_trusted_tasks, trust_threshold)
    trust_rule.check()
    require(scales_lr >= 0, "method.scales_lr", "non-negative", scales_lr)

    def init(setup: MethodSetup) -> TRGPState:
        require_layer_inputs(setup)
        bases = empty_subspaces(setup, basis_size_rule, project_head).bases
        return state_without_columns(bases, setup, scales_lr)

    def begin_task(state: TRGPState, params: Tensor, probe: Probe) -> tuple[TRGPState, Tensor]:
        G = cross_entropy_gradients(probe, samples)
        trusted = [
            select_trusted_spaces(G[number], M, masks, trust_rule)
            for number, (M, masks) in enumerate(zip(state.bases, state.space_masks, strict=True))
        ]
        return trust_spaces(state, trusted), params

    def end_task(state: TRGPState, params: Tensor, probe: Probe) -> TRGPState:
        layer_inputs = probe.layer_inputs(probe.rows[:samples])
        R = representation_matrices(layer_inputs, probe.layers)
        return end_scaling(add_task_space(state, R, basis_size_rule, probe.task), probe.task)

    return Method(
        align_off_bases,
        find_gradient=trgp_gradient,
        init=init,
        begin_task=begin_task,
        end_task=end_task,
        test_params=trgp_test_params,
        claims=("does_not_lengthen", "projects_orthogonally"),
    )
