"""TRGP: GPM that reuses the weights of old tasks which a new task resembles (Lin et al. 2022)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    neutral_scaling,
    scale_params,
    scalings_of_task,
    store_scalings,
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
    replace_task_matrix,
    representation_matrices,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.numerics.vectors import ratio_or_zero


class TRGPState(NamedTuple):
    """bases, spaces, ended_scalings and current_scalings have one entry for each projected layer.

    bases: [d, v] orthonormal columns of the inputs of all old tasks.
    spaces: [T, d, w] of the inputs of each old task, w being the rank of the widest.
    ended_scalings: the scalings of all ended tasks, [T, K, d, w] and [T, K, w, w].
    current_scalings: the scalings of the current task.
    ended_tasks: [] number of tasks that have ended.
    scales_lr: [] hyper-parameter.
    """

    bases: tuple[Tensor, ...]
    spaces: tuple[Tensor, ...]
    ended_scalings: tuple[Scaling, ...]
    current_scalings: tuple[Scaling, ...]
    ended_tasks: Tensor
    scales_lr: Tensor


def select_trusted_spaces(
    G: Tensor, spaces: Tensor, max_trusted_tasks: int, trust_threshold: float
) -> Tensor:
    """The spaces [max_trusted_tasks, d, w], among those of T tasks [T, d, w], that hold the largest
    shares of the norm of a gradient G [r, d]; 0 in place of those whose share is not above
    `trust_threshold` (def. 2)."""
    shares = ratio_or_zero((G @ spaces).flatten(1).norm(dim=1), G.norm())
    largest = shares.topk(min(max_trusted_tasks, len(shares)))
    selected = spaces[largest.indices] * (largest.values > trust_threshold)[:, None, None]
    return pad(selected, (0, 0, 0, 0, 0, max_trusted_tasks - len(selected)))


def trust_spaces(state: TRGPState, spaces: Sequence[Tensor]) -> TRGPState:
    """The state whose current task scales each layer's weights within these spaces [K, d, w]."""
    scalings = zip(state.current_scalings, spaces, strict=True)
    return state._replace(
        current_scalings=tuple(scaling._replace(spaces=S) for scaling, S in scalings)
    )


def first_gradients(probe: Probe, samples: int) -> list[Tensor]:
    """The gradient [r, d] of each layer with a matrix when a task begins: that of the mean
    cross-entropy of `samples` examples of the task."""
    g = probe.mean_gradient(cross_entropy, probe.rows[:samples])
    return layer_matrices(g, probe.layers)


def trgp_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: TRGPState
) -> tuple[ObjectiveGradient, TRGPState]:
    """The `find_gradient` of TRGP: at the scaled parameters, and a step of the scales."""
    objective_gradient, learned = learn_scaled_weights(
        take_gradient, inputs, state.current_scalings, state.scales_lr
    )
    return objective_gradient, state._replace(current_scalings=learned)


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
    """The input space S [d, k] of a task with the inputs R [d, n], and the basis [d, w + r] of all
    tasks after it, from the basis M [d, w] of the tasks before it.

    Candidates for S are the columns m of M, each with the energy |m' R|^2, and the left singular
    vectors of the part of R outside M, each with its squared singular value. Of these the k with
    the largest energies are S, so many that they hold `threshold` of the energy of R; one fewer if
    `one_column_fewer`. Those of them that are new are added to M, so S is inside its span.

    This follows the code published with the paper (github.com/LYang-666/TRGP). Departure: by an
    index that is off by one, the code never adds the first of the singular vectors to M.
    """
    M = M[:, : basis_rank(M)]
    U, singular_values = directions_outside(M, R)
    new = len(M) - M.shape[1]  # as many columns may be new
    candidates = torch.cat([M, U[:, :new].to(M.dtype)], 1)
    energies = torch.cat([(M.T @ R).double().square().sum(1), singular_values[:new].square()])
    order = energies.argsort(descending=True, stable=True)
    total_energy = float(R.double().square().sum())
    rank = max(
        needed_rank(energies[order].sqrt(), 0.0, total_energy, threshold) - one_column_fewer, 0
    )
    selected = order[:rank]
    new_columns = candidates[:, selected[selected >= M.shape[1]]]
    return candidates[:, selected], torch.cat([M, new_columns], 1)


def add_task_space(
    state: TRGPState, R: Sequence[Tensor], basis_size_rule: BasisSizeRule, task: int
) -> TRGPState:
    """The state with the input space of task number `task`, whose inputs are R [d, n] in each
    layer, and bases that hold it."""
    bases, spaces = [], []
    for number, (M, layer_spaces) in enumerate(zip(state.bases, state.spaces, strict=True)):
        threshold = basis_size_rule.threshold(number, task)
        one_column_fewer = basis_size_rule.one_column_fewer(task)
        space, basis = task_space_and_basis(M, R[number], threshold, one_column_fewer)
        bases.append(basis)
        spaces.append(replace_task_matrix(layer_spaces, task, space))
    return state._replace(bases=tuple(bases), spaces=tuple(spaces))


def end_scalings(state: TRGPState, next_scalings: tuple[Scaling, ...], task: int) -> TRGPState:
    """The state after the end of task number `task`: its scalings are stored, and the next task
    begins with `next_scalings`."""
    ended, current = store_scalings(
        state.ended_scalings, state.current_scalings, next_scalings, task
    )
    return state._replace(
        ended_scalings=ended,
        current_scalings=current,
        ended_tasks=state.ended_tasks + 1,
    )


def trgp_test_params(state: TRGPState, params: Tensor, task: int, layers: Layers) -> Tensor:
    """The `test_params` of TRGP: the parameters [P], scaled as the task has learned."""
    scalings = scalings_of_task(
        state.ended_scalings, state.current_scalings, state.ended_tasks, task
    )
    return scale_params(params, layers, scalings)


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

    max_trusted_tasks, trust_threshold: how many old tasks a layer trusts at most, and the share of
    the norm of the task's first gradient that their input spaces must hold (0.5 in the paper).
    That gradient is taken on `samples` examples before the task's first step, as in the code
    published with the paper.
    scales_lr: the step size of the scales.
    The other arguments are those of `BasisSizeRule` and `gpm`.
    """
    basis_size_rule = BasisSizeRule(thresholds, increase, rank_rule)
    basis_size_rule.check()
    require(samples > 0, "method.samples", "positive", samples)
    require(max_trusted_tasks > 0, "method.max_trusted_tasks", "positive", max_trusted_tasks)
    require(0 <= trust_threshold <= 1, "method.trust_threshold", "in [0, 1]", trust_threshold)
    require(scales_lr >= 0, "method.scales_lr", "non-negative", scales_lr)
    neutral = partial(neutral_scaling, max_trusted_tasks=max_trusted_tasks)

    def init(setup: MethodSetup) -> TRGPState:
        number = setup.params.new_tensor
        bases = empty_subspaces(setup, basis_size_rule, project_head).bases
        spaces = tuple(M.expand(setup.tasks, *M.shape) for M in bases)
        scalings = tuple(map(neutral, spaces))
        ended_scalings = tree_stack([scalings] * setup.tasks)
        return TRGPState(bases, spaces, ended_scalings, scalings, number(0.0), number(scales_lr))

    def begin_task(state: TRGPState, params: Tensor, probe: Probe) -> tuple[TRGPState, Tensor]:
        trusted = [
            select_trusted_spaces(G, spaces, max_trusted_tasks, trust_threshold)
            for G, spaces in zip(first_gradients(probe, samples), state.spaces, strict=False)
        ]
        return trust_spaces(state, trusted), params

    def end_task(state: TRGPState, params: Tensor, probe: Probe) -> TRGPState:
        layer_inputs = probe.layer_inputs(probe.rows[:samples])
        R = representation_matrices(layer_inputs, probe.layers)
        state = add_task_space(state, R, basis_size_rule, probe.task)
        return end_scalings(state, tuple(map(neutral, state.spaces)), probe.task)

    return Method(
        align_off_bases,
        find_gradient=trgp_gradient,
        init=init,
        begin_task=begin_task,
        end_task=end_task,
        test_params=trgp_test_params,
        claims=("does_not_lengthen", "projects_orthogonally"),
    )
