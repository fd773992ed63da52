"""TRGP: GPM that reuses the weights of old tasks which a new task resembles (Lin et al. 2022)."""

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
    learn_scales,
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
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.numerics.vectors import ratio_or_zero


class TRGPState(NamedTuple):
    """bases, spaces, ended_scalings and current_scalings have one entry for each projected layer.

    bases: [d, v] orthonormal columns of the inputs of all old tasks.
    spaces: [T, d, w] of the inputs of each old task, w being the rank of the widest.
    ended_scalings: the scalings of all ended tasks, [T, K, d, w] and [T, K, w, w].
    current_scalings: the scalings of the current task.
    is_first_step: [] 1 until the current task's first step, then 0.
    ended_tasks: [] number of tasks that have ended.
    scales_lr, trust_threshold: [] hyper-parameters.
    """

    bases: tuple[Tensor, ...]
    spaces: tuple[Tensor, ...]
    ended_scalings: tuple[Scaling, ...]
    current_scalings: tuple[Scaling, ...]
    is_first_step: Tensor
    ended_tasks: Tensor
    scales_lr: Tensor
    trust_threshold: Tensor


def select_trusted_spaces(
    G: Tensor, spaces: Tensor, max_trusted_tasks: int, trust_threshold: Tensor
) -> Tensor:
    """The spaces [max_trusted_tasks, d, w], among those of T tasks [T, d, w], that hold the largest
    shares of the norm of a gradient G [r, d]; 0 in place of those whose share is not above
    `trust_threshold` (def. 2)."""
    shares = ratio_or_zero((G @ spaces).flatten(1).norm(dim=1), G.norm())
    largest = shares.topk(min(max_trusted_tasks, len(shares)))
    selected = spaces[largest.indices] * (largest.values > trust_threshold)[:, None, None]
    return pad(selected, (0, 0, 0, 0, 0, max_trusted_tasks - len(selected)))


def gradient_at_scaled_params(
    take_gradient: TakeGradient, inputs: LossInputs, state: TRGPState
) -> ObjectiveGradient:
    """The objective and its gradient at the parameters that the current task computes with, with
    respect to these."""
    params = scale_params(inputs.params, inputs.layers, state.current_scalings)
    return take_gradient(inputs._replace(params=params))


def learn_scalings(
    objective_gradient: ObjectiveGradient, inputs: LossInputs, state: TRGPState
) -> tuple[ObjectiveGradient, TRGPState]:
    """The gradient with respect to the parameters, and the state after a step of the scales, from
    what `gradient_at_scaled_params` returned.

    In a task's first step the spaces that it trusts are selected, layer by layer.
    """
    g, _ = objective_gradient
    scalings = []
    for G, (S, Q), spaces in zip(
        layer_matrices(g, inputs.layers), state.current_scalings, state.spaces, strict=False
    ):
        trusted = select_trusted_spaces(G, spaces, len(S), state.trust_threshold)
        scalings.append(Scaling(torch.where(state.is_first_step > 0, trusted, S), Q))
    objective_gradient, learned = learn_scales(
        objective_gradient, inputs, scalings, state.scales_lr
    )
    return objective_gradient, state._replace(
        current_scalings=learned, is_first_step=torch.zeros_like(state.is_first_step)
    )


def trgp_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: TRGPState
) -> tuple[ObjectiveGradient, TRGPState]:
    """The `find_gradient` of TRGP."""
    return learn_scalings(gradient_at_scaled_params(take_gradient, inputs, state), inputs, state)


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


def end_scalings(state: TRGPState, next_scalings: tuple[Scaling, ...], task: int) -> TRGPState:
    """The state after the end of task number `task`: its scalings are stored, and the next task
    begins with `next_scalings`."""
    ended, current = store_scalings(
        state.ended_scalings, state.current_scalings, next_scalings, task
    )
    return state._replace(
        ended_scalings=ended,
        current_scalings=current,
        is_first_step=torch.ones_like(state.is_first_step),
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
        numbers = number(1.0), number(0.0), number(scales_lr), number(trust_threshold)
        return TRGPState(bases, spaces, ended_scalings, scalings, *numbers)

    def end_task(state: TRGPState, params: Tensor, probe: Probe) -> TRGPState:
        task, one_column_fewer = probe.task, basis_size_rule.one_column_fewer(probe.task)
        layer_inputs = probe.layer_inputs(probe.rows[:samples])
        representations = representation_matrices(layer_inputs, probe.layers)
        bases, spaces = [], []
        for number, (M, layer_spaces) in enumerate(zip(state.bases, state.spaces, strict=True)):
            R, threshold = representations[number], basis_size_rule.threshold(number, task)
            space, basis = task_space_and_basis(M, R, threshold, one_column_fewer)
            bases.append(basis)
            spaces.append(replace_task_matrix(layer_spaces, task, space))
        state = state._replace(bases=tuple(bases), spaces=tuple(spaces))
        return end_scalings(state, tuple(map(neutral, spaces)), task)

    return Method(
        align_off_bases,
        find_gradient=trgp_gradient,
        init=init,
        end_task=end_task,
        test_params=trgp_test_params,
        claims=("does_not_lengthen", "projects_orthogonally"),
    )
