"""La-MAML: C-MAML with a learned step size for each parameter (Gupta et al. 2020, alg. 1)."""

from typing import NamedTuple

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


class LaMAMLState(NamedTuple):
    """rates: [P] sizes of the imagined steps;  step: [] they start at;  rate_step: [] by which they
    are learned."""

    rates: Tensor
    step: Tensor
    rate_step: Tensor


def la_maml(step: float, rate_step: float) -> Method:
    """The hypergradient times the rates, which shrink where old and new gradients disagree.

    step: every rate at first, the paper's alpha_0; with `optimizer.lr` the same, the update is the
    paper's, p - max(rate, 0) g. rate_step: the paper's eta. A rate's first-order hypergradient is
    -(sum of the gradients of the imagined steps) * g (eq. 5), and rates move before parameters do.
    """
    require(step > 0, "method.step", "positive", step)
    require(rate_step >= 0, "method.rate_step", "non-negative", rate_step)

    def init(setting: MethodSetup) -> LaMAMLState:
        number = setting.params.new_tensor
        return LaMAMLState(
            setting.params.new_full(setting.params.shape, step), number(step), number(rate_step)
        )

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: LaMAMLState
    ) -> tuple[ObjectiveGradient, LaMAMLState]:
        (g, rest), path = looked_ahead(derivative, trial, state.rates)
        rates = state.rates + state.rate_step * path * g
        return (rates.clamp_min(0) / state.step * g, rest), state._replace(rates=rates)

    return Method(keep_gradient, find_gradient=derive, memory_batches=1, init=init)
