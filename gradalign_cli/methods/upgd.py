"""UPGD: useful weights move less, useless ones are shaken (Elsayed & Mahmood 2024, alg. 1).

The formulas are those of `FirstOrderGlobalUPGD` in the published code, which divides by the largest
utility before its bias is corrected.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import Gradients, Method, MethodSetup
from gradalign_cli.numerics.noise import normal_numbers

KEYS = 2**24  # the numbers that a random float32 from [0, 1) can have


class UPGDState(NamedTuple):
    """params: [P] as they are before the step;  utility: [P] running mean of -g p of each
    parameter p;  steps: [] taken so far;  decay, noise: [] the hyper-parameters of `upgd`."""

    params: Tensor
    utility: Tensor
    steps: Tensor
    decay: Tensor
    noise: Tensor


def scaled_utility(utility: Tensor, bias_correction: Tensor) -> Tensor:
    """The utility [P] of each parameter as a number in [0, 1]: the sigmoid of utility /
    bias_correction over the largest utility; 1/2 where that is 0."""
    largest = utility.max()
    ratio = utility / bias_correction / torch.where(largest == 0, 1.0, largest)
    return torch.where(largest == 0, 0.0, ratio).sigmoid()


def upgd(decay: float, noise: float) -> Method:
    """(g + noise * z) * (1 - u), with z standard normal and u the scaled utility of each parameter
    (arXiv 2404.00781, eq. 5 and alg. 1).

    The utility of a parameter p is what the loss would gain without it, to first order: -g p.
    decay: of the utility's running mean, the paper's beta.
    noise: the standard deviation of what is added to the gradient, the paper's sigma.
    The paper's decay of the weights is `optimizer.weight_decay`.
    """
    require(0 <= decay < 1, "method.decay", "in [0, 1)", decay)
    require(noise >= 0, "method.noise", "non-negative", noise)

    def init(setup: MethodSetup) -> UPGDState:
        params = setup.params
        number = params.new_tensor
        return UPGDState(
            params, torch.zeros_like(params), number(0.0), number(decay), number(noise)
        )

    def align(gradients: Gradients, state: UPGDState) -> tuple[Tensor, UPGDState]:
        g, steps = gradients.g, state.steps + 1
        utility = state.decay * state.utility - (1 - state.decay) * g * state.params
        u = scaled_utility(utility, 1 - state.decay**steps)
        z = normal_numbers((gradients.random_numbers[0] * KEYS).long(), g)
        return (g + state.noise * z) * (1 - u), state._replace(utility=utility, steps=steps)

    def after_step(
        state: UPGDState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
    ) -> UPGDState:
        return state._replace(params=params_after)

    return Method(
        align,
        init=init,
        after_step=after_step,
        needs_random_numbers=True,
        claims=("acts_without_memory",),
    )
