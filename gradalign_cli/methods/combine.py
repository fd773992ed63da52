"""A method and a loss are two choices: the alignment of one method, the objective of another."""

from typing import Any, NamedTuple

from torch import Tensor

from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
    batch_cross_entropy,
    gradient_at_params,
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
    if (
        alignment.objective is not batch_cross_entropy
        or alignment.memory_batches
        or alignment.shuffles_tasks
    ):
        raise UserError("`method` has a loss of its own, so that `objective` cannot be another one")
    own_networks = (
        objective.next_task_params is not keep_params or objective.test_params is not keep_params
    )
    if objective.align is not keep_gradient or objective.shuffles_tasks or own_networks:
        raise UserError("`objective` must be a method that changes the loss, not the gradient")
    first, second = (
        alignment.find_gradient is not gradient_at_params,
        objective.find_gradient is not gradient_at_params,
    )
    if first and second:
        raise UserError("`method` and `objective` both take gradients in a way of their own")

    def init(setting: MethodSetup) -> Both:
        return Both(alignment.init(setting), objective.init(setting))

    def align(gradients: Gradients, state: Both) -> tuple[Tensor, Both]:
        direction, own = alignment.align(gradients, state.alignment)
        return direction, state._replace(alignment=own)

    def value(trial: LossInputs, state: Both) -> tuple[Tensor, Output]:
        return objective.objective(trial, state.objective)

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: Both
    ) -> tuple[ObjectiveGradient, Both]:
        if first:
            found, own = alignment.find_gradient(derivative, trial, state.alignment)
            return found, state._replace(alignment=own)
        found, own = objective.find_gradient(derivative, trial, state.objective)
        return found, state._replace(objective=own)

    def after(state: Both, g: Tensor, before: Tensor, now: Tensor) -> Both:
        return Both(
            alignment.after_step(state.alignment, g, before, now),
            objective.after_step(state.objective, g, before, now),
        )

    def end_task(state: Both, params: Tensor, probe: Probe) -> Both:
        return Both(
            alignment.end_task(state.alignment, params, probe),
            objective.end_task(state.objective, params, probe),
        )

    def restart(state: Both, params: Tensor) -> Tensor:
        return alignment.next_task_params(state.alignment, params)

    def tested(state: Both, params: Tensor, task: int, layers: tuple[Layer, ...]) -> Tensor:
        return alignment.test_params(state.alignment, params, task, layers)

    def report(state: Both) -> dict[str, Tensor]:
        return alignment.report(state.alignment) | objective.report(state.objective)

    endless = alignment.end_task is keep_state and objective.end_task is keep_state
    return alignment._replace(
        align=align,
        objective=value,
        find_gradient=derive,
        memory_batches=objective.memory_batches,
        stores_logits=objective.stores_logits,
        init=init,
        after_step=after,
        end_task=keep_state if endless else end_task,
        next_task_params=keep_params if alignment.next_task_params is keep_params else restart,
        test_params=tested,
        report=report,
    )
