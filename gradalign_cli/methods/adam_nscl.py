"""Adam-NSCL: Adam's step in the null space of old tasks' inputs (Wang et al. 2021, alg. 1)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup, Probe
from gradalign_cli.methods.subspace import in_matrices, projected_widths, representations

BETAS, EPS = (0.9, 0.999), 1e-8


class NullSpaces(NamedTuple):
    """first, second: [P] Adam's moments;  steps: [];  covariance, P: [d, d] of each projected
    layer: the sum of x x' over inputs x, and the projector on what is almost its null space."""

    first: Tensor
    second: Tensor
    steps: Tensor
    covariance: tuple[Tensor, ...]
    P: tuple[Tensor, ...]


def null_projector(covariance: Tensor, factor: float) -> Tensor:
    """U U' [d, d] of the eigenvectors U with eigenvalues of at most factor * the smallest one.

    Eigenvalues below the rounding of float32 count as that rounding, as singular values do there.
    """
    values, U = torch.linalg.eigh(covariance.double())
    least = values[0].clamp_min(values[-1] * torch.finfo(torch.float32).eps)
    kept: Tensor = U * (values <= factor * least)
    return (kept @ kept.T).to(covariance.dtype)


def adam_nscl(factor: float, samples: int, project_head: bool) -> Method:
    """P times Adam's step, per layer; P is the identity until a task has ended.

    factor: the paper's a, in eq. 12: how far above the smallest an eigenvalue counts as zero.
    samples: inputs of the ended task. project_head: false where every task has logits of its own.
    The paper's betas are Adam's usual ones; `optimizer.lr` is Adam's.
    """
    require(factor >= 1, "method.factor", "at least 1", factor)
    require(samples > 0, "method.samples", "positive", samples)

    def init(setting: MethodSetup) -> NullSpaces:
        params = setting.params
        widths = projected_widths(setting, project_head)
        first, second = params.new_zeros(2, len(params))
        eye = partial(torch.eye, dtype=params.dtype, device=params.device)
        return NullSpaces(
            first,
            second,
            params.new_zeros(()),
            tuple(params.new_zeros(d, d) for d in widths),
            tuple(map(eye, widths)),
        )

    def align(gradients: Gradients, state: NullSpaces) -> tuple[Tensor, NullSpaces]:
        g, (b1, b2), steps = gradients.g, BETAS, state.steps + 1
        first = b1 * state.first + (1 - b1) * g
        second = b2 * state.second + (1 - b2) * g.square()
        step = first / (1 - b1**steps) / ((second / (1 - b2**steps)).sqrt() + EPS)
        changes = [lambda G, P=P: G @ P for P in state.P]
        after = state._replace(first=first, second=second, steps=steps)
        return in_matrices(step, gradients.layers, changes), after

    def end_task(state: NullSpaces, params: Tensor, probe: Probe) -> NullSpaces:
        found = representations(probe.layer_inputs(probe.rows[:samples]), probe.layers)
        covariance = tuple(C + R @ R.T for C, R in zip(state.covariance, found, strict=False))
        P = tuple(null_projector(C, factor) for C in covariance)
        return state._replace(covariance=covariance, P=P)

    return Method(align, init=init, end_task=end_task)
