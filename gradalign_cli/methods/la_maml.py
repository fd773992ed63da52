"""La-MAML: C-MAML with a learned step size for each parameter (Gupta et al. 2020, alg. 1)."""

from typing import NamedTuple

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


class LaMAMLState(NamedTuple):
    """rates: [P] the step size of each parameter, the paper's alpha;  initial_rate: [] that they
    start at;  rate_step: [] the step size with which the rates are learned, the paper's eta."""

    rates: Tensor
    initial_rate: Tensor
    rate_step: Tensor


def la_maml(step: float, rate_step: float) -> Method:
    """C-MAML's hypergradient times learned rates, which shrink where gradients on old and new
    examples disagree.

    step: the initial value of every rate, the paper's alpha_0. With `replicas.lr` equal to it the
    update is the paper's, p - max(rate, 0) g. rate_step: the paper's eta. The first-order
    hypergradient of a rate is -(sum of the gradients of the look-ahead steps) * g (eq. 5). The
    rates are updated before the parameters.
    """
    require(step > 0, "method.step", "positive", step)
    require(rate_step >= 0, "method.rate_step", "non-negative", rate_step)

    def init(setup: MethodSetup) -> LaMAMLState:
        number = setup.params.new_tensor
        return LaMAMLState(
            setup.params.new_full(setup.params.shape, step), number(step), number(rate_step)
        )

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: LaMAMLState
    ) -> tuple[ObjectiveGradient, LaMAMLState]:
        (g, value_and_output), gradient_sum = lookahead_gradient(take_gradient, inputs, state.rates)
        rates = state.rates + state.rate_step * gradient_sum * g
        scaled_g = rates.clamp_min(0) / state.initial_rate * g
        return (scaled_g, value_and_output), state._replace(rates=rates)

    return Method(keep_gradient, find_gradient=find_gradient, memory_batches=1, init=init)
