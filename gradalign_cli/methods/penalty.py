"""A quadratic penalty around earlier solutions, which measures of importance share."""

from typing import Any

from torch import Tensor

from gradalign_cli.methods.method import LossInputs, Objective, batch_cross_entropy
from gradalign_cli.models.model import Output


def penalised(factor: float) -> Objective:
    """The batch's loss + factor * strength * sum_i importance_i (p_i - anchor_i)^2, with the three
    taken from the state."""

    def objective(trial: LossInputs, state: Any) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(trial, state)
        distance = trial.params - state.anchor
        return value + factor * state.strength * (state.importance * distance) @ distance, output

    return objective


def less_penalty(g: Tensor, state: Any, params: Tensor) -> Tensor:
    """The gradient [P] of the batch's loss alone, from that of `penalised(1.0)` at params [P]."""
    own: Tensor = g - 2 * state.strength * state.importance * (params - state.anchor)
    return own
