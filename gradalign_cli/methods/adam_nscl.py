"""Adam-NSCL: Adam's step in the null space of old tasks' inputs (Wang et al. 2021, alg. 1)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.batch_norm_penalty import (
    BatchNormPenaltyState,
    add_penalty_gradient,
    end_batch_norm_task,
    initial_batch_norm_state,
    with_current_batch_norm,
)
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import (
    map_layer_matrices,
    projected_layer_widths,
    representation_matrices,
    require_layer_inputs,
)
from gradalign_cli.numerics.moments import Moments, adam_update, no_moments
from gradalign_cli.numerics.trees import Absent

BETAS, EPS = (0.9, 0.999), 1e-8


class AdamNSCLState(NamedTuple):
    """moments: of Adam, of the gradients of the task;  covariances, projectors: [d, d] for each
    projected layer, the sum of x x' over the inputs x of old tasks, and the projector on its
    approximate null space;  batch_norm_penalty: on BatchNorm's parameters, absent where there are
    none."""

    moments: Moments
    covariances: tuple[Tensor, ...]
    projectors: tuple[Tensor, ...]
    batch_norm_penalty: BatchNormPenaltyState | Absent


def null_projector(covariance: Tensor, eigenvalue_factor: float) -> Tensor:
    """U U' [d, d] for the eigenvectors U of a covariance [d, d] whose eigenvalues are at most
    eigenvalue_factor * the smallest one.

    The smallest one counts as at least the largest one times the precision of float32: eigenvalues
    below that are rounding errors.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance.double())
    smallest = eigenvalues[0].clamp_min(eigenvalues[-1] * torch.finfo(torch.float32).eps)
    U: Tensor = eigenvectors * (eigenvalues <= eigenvalue_factor * smallest)
    return (U @ U.T).to(covariance.dtype)


def align_adam_step(gradients: Gradients, state: AdamNSCLState) -> tuple[Tensor, AdamNSCLState]:
    """The `align` of Adam-NSCL: Adam's step [P] (Kingma and Ba 2015), projected in each layer."""
    g = add_penalty_gradient(gradients.g, state.batch_norm_penalty)
    adam_step, moments = adam_update(g, state.moments, BETAS, EPS)
    projections = [lambda G, P=P: G @ P for P in state.projectors]
    projected = map_layer_matrices(adam_step, gradients.layers, projections)
    return projected, state._replace(moments=moments)


def store_batch_norm_params(
    state: AdamNSCLState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
) -> AdamNSCLState:
    """The `after_step` of Adam-NSCL."""
    return state._replace(
        batch_norm_penalty=with_current_batch_norm(state.batch_norm_penalty, params_after)
    )


def adam_nscl(
    eigenvalue_factor: float,
    samples: int,
    project_head: bool,
    strength: float,
    importance_batch_size: int,
) -> Method:
    """Adam's step, multiplied in each layer by the projector on the approximate null space of the
    inputs of old tasks; the plain Adam step until a task has ended.

    Each task starts with Adam's moments at 0, as in the published code, which makes a new optimizer
    for it. BatchNorm's parameters have no inputs. As there, a penalty strength * sum_t sum_i
    F_ti (p_i - p_ti)^2 is added to their loss (strength is its reg_coef), p_t being their values at
    the end of task t and F_t the squared gradients of the cross-entropy with the predicted classes.

    eigenvalue_factor: the paper's a in eq. 12; eigenvalues up to this many times the smallest count
    as zero.
    samples: how many examples of an ended task its inputs and its F are taken from.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    importance_batch_size: F is the mean, over batches of this many examples, of the square of the
    gradient of a batch's mean loss, times the number of its examples. The betas are Adam's usual
    ones, as in the paper. `replicas.lr` is Adam's learning rate, for all layers; the published code
    has others for BatchNorm and for the head.
    """
    require(eigenvalue_factor >= 1, "method.eigenvalue_factor", "at least 1", eigenvalue_factor)
    require(strength >= 0, "method.strength", "non-negative", strength)
    for name, count in (("samples", samples), ("importance_batch_size", importance_batch_size)):
        require(count > 0, f"method.{name}", "positive", count)

    def init(setup: MethodSetup) -> AdamNSCLState:
        require_layer_inputs(setup)
        params, widths = setup.params, projected_layer_widths(setup, project_head)
        eye = partial(torch.eye, dtype=params.dtype, device=params.device)
        return AdamNSCLState(
            no_moments(params),
            tuple(params.new_zeros(d, d) for d in widths),
            tuple(map(eye, widths)),
            initial_batch_norm_state(setup, strength),
        )

    def end_task(state: AdamNSCLState, params: Tensor, probe: Probe) -> AdamNSCLState:
        rows = probe.rows[:samples]
        representations = representation_matrices(probe.layer_inputs(rows), probe.layers)
        pairs = zip(state.covariances, representations, strict=False)  # the head may have none
        covariances = tuple(C + R @ R.T for C, R in pairs)
        return AdamNSCLState(
            no_moments(params),
            covariances,
            tuple(null_projector(C, eigenvalue_factor) for C in covariances),
            end_batch_norm_task(state.batch_norm_penalty, probe, rows, importance_batch_size),
        )

    return Method(
        align_adam_step,
        init=init,
        after_step=store_batch_norm_params,
        end_task=end_task,
        claims=("acts_without_memory",),
    )
