"""A method and a loss are two choices: the alignment of one method, the objective of another."""

from typing import Any, NamedTuple

from torch import Tensor

from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import (
    Derivative,
    Found,
    Gradients,
    Method,
    Probe,
    Setting,
    Trial,
    batch_loss,
    derive_once,
    keep_gradient,
    keep_params,
    keep_state,
)
from gradalign_cli.models.model import Layer, Output


class Both(NamedTuple):
    """The states of the two."""

    alignment: Any
    objective: Any


def combine(alignment: Method, objective: Method) -> Method:
    """`alignment` applied to the gradient of the loss that `objective` trains on.

    References stay gradients of the cross-entropy on memory. How g is found is up to the one that
    has a way of its own. Raises UserError where the first has a loss of its own or the second an
    alignment, or both a way to find g.
    """
    if alignment.objective is not batch_loss or alignment.replays or alignment.mixed:
        raise UserError("`method` has a loss of its own, so that `objective` cannot be another one")
    own_networks = objective.restart is not keep_params or objective.tested is not keep_params
    if objective.align is not keep_gradient or objective.mixed or own_networks:
        raise UserError("`objective` must be a method that changes the loss, not the gradient")
    first, second = alignment.derive is not derive_once, objective.derive is not derive_once
    if first and second:
        raise UserError("`method` and `objective` both take gradients in a way of their own")

    def init(setting: Setting) -> Both:
        return Both(alignment.init(setting), objective.init(setting))

    def align(gradients: Gradients, state: Both) -> tuple[Tensor, Both]:
        direction, own = alignment.align(gradients, state.alignment)
        return direction, state._replace(alignment=own)

    def value(trial: Trial, state: Both) -> tuple[Tensor, Output]:
        return objective.objective(trial, state.objective)

    def derive(derivative: Derivative, trial: Trial, state: Both) -> tuple[Found, Both]:
        if first:
            found, own = alignment.derive(derivative, trial, state.alignment)
            return found, state._replace(alignment=own)
        found, own = objective.derive(derivative, trial, state.objective)
        return found, state._replace(objective=own)

    def after(state: Both, g: Tensor, before: Tensor, now: Tensor) -> Both:
        return Both(
            alignment.after(state.alignment, g, before, now),
            objective.after(state.objective, g, before, now),
        )

    def end_task(state: Both, params: Tensor, probe: Probe) -> Both:
        return Both(
            alignment.end_task(state.alignment, params, probe),
            objective.end_task(state.objective, params, probe),
        )

    def restart(state: Both, params: Tensor) -> Tensor:
        return alignment.restart(state.alignment, params)

    def tested(state: Both, params: Tensor, task: int, layers: tuple[Layer, ...]) -> Tensor:
        return alignment.tested(state.alignment, params, task, layers)

    endless = alignment.end_task is keep_state and objective.end_task is keep_state
    return alignment._replace(
        align=align,
        objective=value,
        derive=derive,
        replays=objective.replays,
        stores=objective.stores,
        init=init,
        after=after,
        end_task=keep_state if endless else end_task,
        restart=keep_params if alignment.restart is keep_params else restart,
        tested=tested,
    )
