"""The quadratic penalty that EWC, EWC++, SI, MAS and RWalk add to the loss.

The state of such a method has the fields strength [], importance [P] of each parameter, and
penalty_centre [P], the parameters at which the penalty is 0: those of earlier solutions.
"""

from typing import Any

from torch import Tensor

from gradalign_cli.methods.method import LossInputs, Objective, batch_cross_entropy
from gradalign_cli.models.model import Output


def cross_entropy_with_quadratic_penalty(strength_factor: float) -> Objective:
    """The objective: the mean cross-entropy of the batch + factor * strength * sum_i importance_i
    (p_i - centre_i)^2, with strength, importance and centre from the method's state."""

    def objective(inputs: LossInputs, state: Any) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(inputs, state)
        displacement = inputs.params - state.penalty_centre
        penalty = (
            strength_factor * state.strength * (state.importance * displacement) @ displacement
        )
        return value + penalty, output

    return objective


def subtract_penalty_gradient(g: Tensor, state: Any, params: Tensor) -> Tensor:
    """The gradient [P] of the cross-entropy alone, from the gradient g [P] of
    `cross_entropy_with_quadratic_penalty(1.0)` at params [P]."""
    displacement = params - state.penalty_centre
    cross_entropy_gradient: Tensor = g - 2 * state.strength * state.importance * displacement
    return cross_entropy_gradient
