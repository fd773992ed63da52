"""A method and a loss are two choices: the alignment of one method, the objective of another."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from gradalign_cli.errors import UserError
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    Objective,
    ObjectiveGradient,
    Probe,
    TakeGradient,
    batch_cross_entropy,
    can_align_updates,
    gradient_at_params,
    keep_gradient,
    unchanged_params,
    unchanged_state,
    unchanged_state_and_params,
)
from gradalign_cli.models.model import Output


class CombinedState(NamedTuple):
    """The states of the method whose alignment is used and of the one whose objective is."""

    alignment: Any
    objective: Any


def check_combination(alignment: Method, objective: Method) -> None:
    """Raise UserError where `alignment` has a loss of its own, where `objective` has an alignment
    or parameters of its own, or where both have a `find_gradient`."""
    if (
        alignment.objective is not batch_cross_entropy
        or alignment.memory_batches
        or alignment.shuffles_tasks_together
    ):
        raise UserError("`method` has a loss of its own, so that `objective` cannot be another one")
    changes_params = (
        objective.next_task_params is not unchanged_params
        or objective.test_params is not unchanged_params
    )
    if objective.align is not keep_gradient or objective.shuffles_tasks_together or changes_params:
        raise UserError("`objective` must be a method that changes the loss, not the gradient")
    if (
        alignment.find_gradient is not gradient_at_params
        and objective.find_gradient is not gradient_at_params
    ):
        raise UserError("`method` and `objective` both take gradients in a way of their own")


def for_method_with_state(take_gradient: TakeGradient, own_state: Any) -> TakeGradient:
    """The `take_gradient` of one of both methods: its other objectives get `own_state`."""

    def take(inputs: LossInputs, other_objective: Objective | None = None) -> ObjectiveGradient:
        if other_objective is None:
            return take_gradient(inputs)
        return take_gradient(inputs, lambda inputs, _: other_objective(inputs, own_state))

    return take


def choose_find_gradient(
    alignment: Method, objective: Method
) -> Callable[[TakeGradient, LossInputs, CombinedState], tuple[ObjectiveGradient, CombinedState]]:
    """The `find_gradient` of the alignment's method where it has its own, else the objective's."""

    def find_for_alignment(
        take_gradient: TakeGradient, inputs: LossInputs, state: CombinedState
    ) -> tuple[ObjectiveGradient, CombinedState]:
        take_gradient = for_method_with_state(take_gradient, state.alignment)
        gradient, own_state = alignment.find_gradient(take_gradient, inputs, state.alignment)
        return gradient, state._replace(alignment=own_state)

    def find_for_objective(
        take_gradient: TakeGradient, inputs: LossInputs, state: CombinedState
    ) -> tuple[ObjectiveGradient, CombinedState]:
        take_gradient = for_method_with_state(take_gradient, state.objective)
        gradient, own_state = objective.find_gradient(take_gradient, inputs, state.objective)
        return gradient, state._replace(objective=own_state)

    default = alignment.find_gradient is gradient_at_params
    return find_for_objective if default else find_for_alignment


def combined_step_size_warning(alignment: Method, objective: Method, lr: float) -> str:
    """The `step_size_warning` of a combination: of the first method that has one."""
    return alignment.step_size_warning(lr) or objective.step_size_warning(lr)


def report_both(alignment: Method, objective: Method, state: CombinedState) -> dict[str, Tensor]:
    """The `report` of a combination: what both methods report."""
    return alignment.report(state.alignment) | objective.report(state.objective)


def begin_task_of_both(
    alignment: Method, objective: Method, state: CombinedState, params: Tensor, probe: Probe
) -> tuple[CombinedState, Tensor]:
    """`Method.begin_task` of the alignment, then of the objective."""
    alignment_state, params = alignment.begin_task(state.alignment, params, probe)
    objective_state, params = objective.begin_task(state.objective, params, probe)
    return CombinedState(alignment_state, objective_state), params


def end_task_of_both(
    alignment: Method, objective: Method, state: CombinedState, params: Tensor, probe: Probe
) -> CombinedState:
    """`Method.end_task` of both."""
    return CombinedState(
        alignment.end_task(state.alignment, params, probe),
        objective.end_task(state.objective, params, probe),
    )


def combine(alignment: Method, objective: Method) -> Method:
    """The method that takes the gradient of `objective`'s loss and aligns it as `alignment` does.

    References remain gradients of the cross-entropy on memory. Raises UserError where the two
    cannot be combined, see `check_combination`.
    """
    check_combination(alignment, objective)

    def init(setup: MethodSetup) -> CombinedState:
        return CombinedState(alignment.init(setup), objective.init(setup))

    def align(gradients: Gradients, state: CombinedState) -> tuple[Tensor, CombinedState]:
        direction, alignment_state = alignment.align(gradients, state.alignment)
        return direction, state._replace(alignment=alignment_state)

    def combined_objective(inputs: LossInputs, state: CombinedState) -> tuple[Tensor, Output]:
        return objective.objective(inputs, state.objective)

    def after_step(
        state: CombinedState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
    ) -> CombinedState:
        return CombinedState(
            alignment.after_step(state.alignment, unaligned_g, params_before, params_after),
            objective.after_step(state.objective, unaligned_g, params_before, params_after),
        )

    def next_task_params(state: CombinedState, params: Tensor) -> Tensor:
        return alignment.next_task_params(state.alignment, params)

    def test_params(state: CombinedState, params: Tensor, task: int, layers: Any) -> Tensor:
        return alignment.test_params(state.alignment, params, task, layers)

    takes_one = alignment.find_gradient is gradient_at_params
    combined = alignment._replace(
        align=align,
        objective=combined_objective,
        find_gradient=choose_find_gradient(alignment, objective),
        gradient_count=(objective if takes_one else alignment).gradient_count,
        memory_batches=objective.memory_batches,
        stores_logits=objective.stores_logits,
        init=init,
        align_accepts_updates=can_align_updates(alignment),
        after_step=after_step,
        test_params=test_params,
        step_size_warning=partial(combined_step_size_warning, alignment, objective),
        report=partial(report_both, alignment, objective),
        claims=(*alignment.claims, *(c for c in objective.claims if c == "acts_without_memory")),
    )
    # `needed_task_ids` reads off these whether the method must be told where tasks end
    if any(part.begin_task is not unchanged_state_and_params for part in (alignment, objective)):
        combined = combined._replace(begin_task=partial(begin_task_of_both, alignment, objective))
    if alignment.end_task is not unchanged_state or objective.end_task is not unchanged_state:
        combined = combined._replace(end_task=partial(end_task_of_both, alignment, objective))
    if alignment.next_task_params is not unchanged_params:
        combined = combined._replace(next_task_params=next_task_params)
    return combined
