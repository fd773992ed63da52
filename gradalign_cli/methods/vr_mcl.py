"""VR-MCL: C-MAML's hypergradient with the noise of its memory batch reduced (Wu et al. 2024)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.lookahead import looked_ahead
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)


class VRMCLState(NamedTuple):
    """step, momentum: [];  estimate, before: [P] the last direction and the parameters it was taken
    at;  steps: [] that were made."""

    step: Tensor
    momentum: Tensor
    estimate: Tensor
    before: Tensor
    steps: Tensor


def vr_mcl(step: float, momentum: float) -> Method:
    """d_t = h(p_t) + momentum (d_{t-1} - h(p_{t-1})), both h on the same batch and memory batch.

    h is the first-order hypergradient of `looked_ahead`; momentum 0 is C-MAML. step: the size of
    the imagined steps.
    """
    require(step >= 0, "method.step", "non-negative", step)
    require(0 <= momentum < 1, "method.momentum", "in [0, 1)", momentum)

    def init(setting: MethodSetup) -> VRMCLState:
        params, number = setting.params, setting.params.new_tensor
        none = torch.zeros_like(params)
        return VRMCLState(number(step), number(momentum), none, params, number(0.0))

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: VRMCLState
    ) -> tuple[ObjectiveGradient, VRMCLState]:
        (g, rest), _ = looked_ahead(derivative, trial, state.step)
        (old, _), _ = looked_ahead(derivative, trial._replace(params=state.before), state.step)
        gone = torch.where(state.steps > 0, state.momentum, 0.0)
        found = g + gone * (state.estimate - old)
        after = state._replace(estimate=found, before=trial.params, steps=state.steps + 1)
        return (found, rest), after

    return Method(keep_gradient, find_gradient=derive, memory_batches=1, init=init)
