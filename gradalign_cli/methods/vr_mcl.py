"""VR-MCL: C-MAML's hypergradient with the noise of its memory batch reduced (Wu et al. 2024)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.lookahead import lookahead_gradient
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)


class VRMCLState(NamedTuple):
    """lookahead_lr, momentum_coefficient: [];  previous_direction, previous_params: [P] of the last
    step, the parameters before their update;  steps: [] number of steps so far."""

    lookahead_lr: Tensor
    momentum_coefficient: Tensor
    previous_direction: Tensor
    previous_params: Tensor
    steps: Tensor


def vr_mcl(lookahead_lr: float, momentum: float) -> Method:
    """d_t = h(p_t) + momentum (d_{t-1} - h(p_{t-1})), with both h on the same batch and the same
    memory batch.

    h is C-MAML's first-order hypergradient; momentum 0 is C-MAML.
    lookahead_lr: the size of the look-ahead steps.
    """
    require(lookahead_lr >= 0, "method.lookahead_lr", "non-negative", lookahead_lr)
    require(0 <= momentum < 1, "method.momentum", "in [0, 1)", momentum)

    def init(setup: MethodSetup) -> VRMCLState:
        params, number = setup.params, setup.params.new_tensor
        zero = torch.zeros_like(params)
        return VRMCLState(number(lookahead_lr), number(momentum), zero, params, number(0.0))

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: VRMCLState
    ) -> tuple[ObjectiveGradient, VRMCLState]:
        (g, value_and_output), _ = lookahead_gradient(take_gradient, inputs, state.lookahead_lr)
        previous_inputs = inputs._replace(params=state.previous_params)
        (previous_g, _), _ = lookahead_gradient(take_gradient, previous_inputs, state.lookahead_lr)
        momentum = torch.where(
            state.steps > 0, state.momentum_coefficient, 0.0
        )  # none in the first step
        direction = g + momentum * (state.previous_direction - previous_g)
        state = state._replace(
            previous_direction=direction, previous_params=inputs.params, steps=state.steps + 1
        )
        return (direction, value_and_output), state

    return Method(
        keep_gradient,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: 2 * (b + 1),
        memory_batches=1,
        init=init,
        claims=("acts_without_memory",),
    )
