"""CUBER: TRGP that also changes the weights of old tasks which gain from the change (Lin et al.
2022)."""

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
from gradalign_cli.methods.scaled_weights import Layers
from gradalign_cli.methods.subspace import (
    BasisSizeRule,
    RankRule,
    project_off_bases,
    replace_task_tensor,
    representation_matrices,
)
from gradalign_cli.methods.trgp import (
    TRGPState,
    TrustRule,
    cross_entropy_gradients,
    select_trusted_spaces,
    task_space_and_basis,
    trgp,
    trgp_gradient,
    trgp_test_params,
    trust_spaces,
)
from gradalign_cli.numerics.trees import pad_to_common_shapes, tree_stack
from gradalign_cli.numerics.vectors import ratio_or_zero


class CUBERState(NamedTuple):
    """task_gradients, bases_without_each_task and bases_projected_off have one entry for each
    projected layer.

    trgp: the state of TRGP.
    task_gradients: [T, rows, v] the gradient of each old task's loss at the end of the task,
    multiplied by the columns of TRGP's basis, 0 for those that are not of its input space.
    bases_without_each_task: [T, d, v] for each old task, the basis of the inputs of all other old
    tasks.
    bases_projected_off: [d, v] the basis that the current task's gradients are projected off.
    """

    trgp: TRGPState
    task_gradients: tuple[Tensor, ...]
    bases_without_each_task: tuple[Tensor, ...]
    bases_projected_off: tuple[Tensor, ...]


def best_joinable_task_mask(
    G: Tensor,
    M: Tensor,
    space_masks: Tensor,
    task_gradients: Tensor,
    trust_threshold: float,
    correlation_threshold: float,
) -> Tensor:
    """A mask [T] that is True for the old task which gains most from a step along G [rows, d], the
    one that is joined, and for no other.

    The task must satisfy two conditions. Its space, the columns of M [d, v] in its mask of
    `space_masks` [T, v], holds more than `trust_threshold` of the norm of G (the paper's sufficient
    projection). And within the space the cosine of G and the task's own gradient [T, rows, v] is
    above `correlation_threshold` (positive correlation). The largest cosine wins; if no task
    satisfies both, all is False.
    """
    coordinates = G @ M * space_masks[:, None]
    norms = coordinates.flatten(1).norm(dim=1)
    products = (coordinates * task_gradients).flatten(1).sum(1)
    cosines = ratio_or_zero(products, norms * task_gradients.flatten(1).norm(dim=1))
    gains = (ratio_or_zero(norms, G.norm()) > trust_threshold) & (cosines > correlation_threshold)
    best = torch.where(gains, cosines, -torch.inf).argmax()
    return gains & (torch.arange(len(gains), device=G.device) == best)


def join_and_trust(
    state: CUBERState, G: Sequence[Tensor], trust_rule: TrustRule, correlation_threshold: float
) -> CUBERState:
    """The state of a task whose first gradient is G [rows, d] in each layer: the old task that it
    joins there is not projected off, and not among those that it trusts."""
    trusted, bases_projected_off = [], []
    for number, (M, masks) in enumerate(zip(state.trgp.bases, state.trgp.space_masks, strict=True)):
        gradients = state.task_gradients[number]
        thresholds = trust_rule.trust_threshold, correlation_threshold
        joined = best_joinable_task_mask(G[number], M, masks, gradients, *thresholds)
        bases_of_joined = state.bases_without_each_task[number][joined]  # of one task, or of none
        bases_projected_off += [*bases_of_joined] or [state.bases_projected_off[number]]
        unjoined_masks = masks * ~joined[:, None]
        trusted.append(select_trusted_spaces(G[number], M, unjoined_masks, trust_rule))
    return state._replace(
        trgp=trust_spaces(state.trgp, trusted), bases_projected_off=tuple(bases_projected_off)
    )


def cuber_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: CUBERState
) -> tuple[ObjectiveGradient, CUBERState]:
    """The `find_gradient` of CUBER: that of TRGP."""
    objective_gradient, trgp_state = trgp_gradient(take_gradient, inputs, state.trgp)
    return objective_gradient, state._replace(trgp=trgp_state)


def align_off_current_bases(gradients: Gradients, state: CUBERState) -> tuple[Tensor, CUBERState]:
    """The `align` of CUBER: g, projected off the inputs of the old tasks that are not joined."""
    importance = [torch.ones_like(M[0]) for M in state.bases_projected_off]
    direction = project_off_bases(
        gradients.g, gradients.layers, state.bases_projected_off, importance, state.trgp.ended_tasks
    )
    return direction, state


def grow_bases_without_task(
    bases_without_each_task: Tensor,
    basis_before_task: Tensor,
    R: Tensor,
    threshold: float,
    task: int,
) -> list[Tensor]:
    """The `bases_without_each_task` of a layer at the end of task number `task`, from those
    [T, d, v] before it.

    Those without an earlier task grow as TRGP's basis does, for R [d, n], the inputs of the ended
    task. The one without the ended task is `basis_before_task` [d, w], that of all earlier
    tasks.
    """
    bases = [*bases_without_each_task]
    for earlier_task in range(task):
        _, bases[earlier_task] = task_space_and_basis(bases[earlier_task], R, threshold, False)
    bases[task] = basis_before_task
    return bases


class TaskEndBases(NamedTuple):
    """The fields of `CUBERState` that change with the bases."""

    bases_without_each_task: tuple[Tensor, ...]
    bases_projected_off: tuple[Tensor, ...]


def task_end_bases(
    state: CUBERState,
    trgp_state_after: TRGPState,
    R: Sequence[Tensor],
    basis_size_rule: BasisSizeRule,
    task: int,
) -> TaskEndBases:
    """The bases at the end of task number `task`, from the state before it, TRGP's state after it,
    and the task's inputs R [d, n] of each layer."""
    bases_without_each_task, bases_projected_off = [], []
    for number, (bases, basis) in enumerate(
        zip(state.bases_without_each_task, state.trgp.bases, strict=True)
    ):
        threshold = basis_size_rule.threshold(number, task)
        grown_bases = grow_bases_without_task(bases, basis, R[number], threshold, task)
        *padded_bases, current_basis = pad_to_common_shapes(
            [*grown_bases, trgp_state_after.bases[number]]
        )
        bases_without_each_task.append(tree_stack(padded_bases))
        bases_projected_off.append(current_basis)
    return TaskEndBases(tuple(bases_without_each_task), tuple(bases_projected_off))


def task_end_gradients(
    state: CUBERState, trgp_state: TRGPState, G: Sequence[Tensor], task: int
) -> tuple[Tensor, ...]:
    """The `task_gradients` at the end of task number `task`, from the state before it, TRGP's state
    after it, and the gradient G [rows, d] of the task's loss for each layer."""
    return tuple(
        replace_task_tensor(gradients[..., : M.shape[1]], task, G[number] @ M * masks[task])
        for number, (gradients, M, masks) in enumerate(
            zip(state.task_gradients, trgp_state.bases, trgp_state.space_masks, strict=True)
        )
    )


def cuber_test_params(state: CUBERState, params: Tensor, task: int, layers: Layers) -> Tensor:
    """The `test_params` of CUBER: those of TRGP."""
    return trgp_test_params(state.trgp, params, task, layers)


def cuber(
    thresholds: list[float],
    increase: float,
    samples: int,
    rank_rule: RankRule,
    project_head: bool,
    max_trusted_tasks: int,
    trust_threshold: float,
    scales_lr: float,
    correlation_threshold: float,
) -> Method:
    """TRGP whose weights also change along the inputs of an old task, in a layer where the current
    task's first gradient agrees with the old task's gradient (arXiv 2211.00789).

    So an old task is treated in one of three ways in a layer. If its input space holds little of
    the gradient, its weights are left alone. If it holds much, the task is trusted as in TRGP. If
    also the gradients agree, the task is joined: the gradient is not projected off its inputs.

    correlation_threshold: the cosine above which gradients agree (the paper's eps_2, unknown to us;
    with 0.5 it is TRGP on GPM's Permuted MNIST). The other arguments are those of `trgp`.

    Departures: a layer joins one old task only, the one that agrees most, and its gradient is still
    projected off the inputs of all others. The gradient of an old task is taken on `samples`
    examples and compared within the task's input space. As far as we remember, the paper also pulls
    the joined weights back to where the task found them; this is left out.
    """
    basis_size_rule = BasisSizeRule(thresholds, increase, rank_rule)
    trust_rule = TrustRule(max_trusted_tasks, trust_threshold)
    rules = rank_rule, project_head, *trust_rule
    trgp_method = trgp(thresholds, increase, samples, *rules, scales_lr)
    is_cosine = -1 <= correlation_threshold <= 1
    require(is_cosine, "method.correlation_threshold", "in [-1, 1]", correlation_threshold)

    def init(setup: MethodSetup) -> CUBERState:
        trgp_state, tasks, zeros = trgp_method.init(setup), setup.tasks, setup.params.new_zeros
        bases = trgp_state.bases
        rows = [layer.matrix_rows for layer in setup.layers if layer.matrix_rows]
        task_gradients = tuple(zeros(tasks, r, 0) for r in rows[: len(bases)])
        without_each_task = tuple(zeros(tasks, len(M), 0) for M in bases)
        return CUBERState(trgp_state, task_gradients, without_each_task, bases)

    def begin_task(state: CUBERState, params: Tensor, probe: Probe) -> tuple[CUBERState, Tensor]:
        G = cross_entropy_gradients(probe, samples)
        return join_and_trust(state, G, trust_rule, correlation_threshold), params

    def end_task(state: CUBERState, params: Tensor, probe: Probe) -> CUBERState:
        trgp_state = trgp_method.end_task(state.trgp, params, probe)
        R = representation_matrices(probe.layer_inputs(probe.rows[:samples]), probe.layers)
        bases = task_end_bases(state, trgp_state, R, basis_size_rule, probe.task)
        G = cross_entropy_gradients(probe, samples)
        return CUBERState(trgp_state, task_end_gradients(state, trgp_state, G, probe.task), *bases)

    return trgp_method._replace(
        align=align_off_current_bases,
        find_gradient=cuber_gradient,
        init=init,
        begin_task=begin_task,
        end_task=end_task,
        test_params=cuber_test_params,
    )
