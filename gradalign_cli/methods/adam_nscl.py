"""Adam-NSCL: Adam's step in the null space of old tasks' inputs (Wang et al. 2021, alg. 1)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import (
    map_matrices,
    projected_widths,
    representation_matrices,
)

BETAS, EPS = (0.9, 0.999), 1e-8


class AdamNSCLState(NamedTuple):
    """first_moment, second_moment: [P] of Adam;  steps: [] number of steps;  covariances,
    projectors: [d, d] for each projected layer, the sum of x x' over the inputs x of old tasks, and
    the projector on its approximate null space."""

    first_moment: Tensor
    second_moment: Tensor
    steps: Tensor
    covariances: tuple[Tensor, ...]
    projectors: tuple[Tensor, ...]


def null_projector(covariance: Tensor, factor: float) -> Tensor:
    """U U' [d, d] for the eigenvectors U of a covariance [d, d] whose eigenvalues are at most
    factor * the smallest one.

    The smallest one counts as at least the largest one times the precision of float32: eigenvalues
    below that are rounding errors.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance.double())
    smallest = eigenvalues[0].clamp_min(eigenvalues[-1] * torch.finfo(torch.float32).eps)
    U: Tensor = eigenvectors * (eigenvalues <= factor * smallest)
    return (U @ U.T).to(covariance.dtype)


def adam_nscl(factor: float, samples: int, project_head: bool) -> Method:
    """Adam's step, multiplied in each layer by the projector on the approximate null space of the
    inputs of old tasks; the plain Adam step until a task has ended.

    factor: the paper's a in eq. 12; eigenvalues up to this many times the smallest count as zero.
    samples: how many examples of an ended task its inputs are taken from.
    project_head: whether the last layer is projected too; false where every task has logits of its
    own.
    The betas are Adam's usual ones, as in the paper. `replicas.lr` is Adam's learning rate.
    """
    require(factor >= 1, "method.factor", "at least 1", factor)
    require(samples > 0, "method.samples", "positive", samples)

    def init(setup: MethodSetup) -> AdamNSCLState:
        params = setup.params
        widths = projected_widths(setup, project_head)
        first_moment, second_moment = params.new_zeros(2, len(params))
        eye = partial(torch.eye, dtype=params.dtype, device=params.device)
        return AdamNSCLState(
            first_moment,
            second_moment,
            params.new_zeros(()),
            tuple(params.new_zeros(d, d) for d in widths),
            tuple(map(eye, widths)),
        )

    def align(gradients: Gradients, state: AdamNSCLState) -> tuple[Tensor, AdamNSCLState]:
        g, (beta1, beta2), steps = gradients.g, BETAS, state.steps + 1
        first_moment = beta1 * state.first_moment + (1 - beta1) * g
        second_moment = beta2 * state.second_moment + (1 - beta2) * g.square()
        root = (second_moment / (1 - beta2**steps)).sqrt()
        adam_step = first_moment / (1 - beta1**steps) / (root + EPS)
        projections = [lambda G, P=P: G @ P for P in state.projectors]
        state = state._replace(first_moment=first_moment, second_moment=second_moment, steps=steps)
        return map_matrices(adam_step, gradients.layers, projections), state

    def end_task(state: AdamNSCLState, params: Tensor, probe: Probe) -> AdamNSCLState:
        layer_inputs = probe.layer_inputs(probe.rows[:samples])
        representations = representation_matrices(layer_inputs, probe.layers)
        pairs = zip(state.covariances, representations, strict=False)  # the head may have none
        covariances = tuple(C + R @ R.T for C, R in pairs)
        projectors = tuple(null_projector(C, factor) for C in covariances)
        return state._replace(covariances=covariances, projectors=projectors)

    return Method(align, init=init, end_task=end_task)
