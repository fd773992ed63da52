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
    """lrs: [P] the step size of each parameter, the paper's alpha;  initial_lr: [] that they start
    at;  lr_of_lrs: [] the step size with which they are learned, the paper's eta."""

    lrs: Tensor
    initial_lr: Tensor
    lr_of_lrs: Tensor


def la_maml(initial_lr: float, lr_of_lrs: float) -> Method:
    """C-MAML's hypergradient times learned rates, which shrink where gradients on old and new
    examples disagree.

    initial_lr: the initial value of every rate, the paper's alpha_0. With `replicas.lr` equal to it
    the update is the paper's, p - max(rate, 0) g. lr_of_lrs: the paper's eta. The first-order
    hypergradient of a rate is -(sum of the gradients of the look-ahead steps) * g (eq. 5). The
    rates are updated before the parameters.
    """
    require(initial_lr > 0, "method.initial_lr", "positive", initial_lr)
    require(lr_of_lrs >= 0, "method.lr_of_lrs", "non-negative", lr_of_lrs)

    def init(setup: MethodSetup) -> LaMAMLState:
        number = setup.params.new_tensor
        return LaMAMLState(
            setup.params.new_full(setup.params.shape, initial_lr),
            number(initial_lr),
            number(lr_of_lrs),
        )

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: LaMAMLState
    ) -> tuple[ObjectiveGradient, LaMAMLState]:
        (g, value_and_output), gradient_sum = lookahead_gradient(take_gradient, inputs, state.lrs)
        lrs = state.lrs + state.lr_of_lrs * gradient_sum * g
        scaled_g = lrs.clamp_min(0) / state.initial_lr * g
        return (scaled_g, value_and_output), state._replace(lrs=lrs)

    return Method(
        keep_gradient,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: b + 1,
        memory_batches=1,
        init=init,
        claims=("acts_without_memory",),
    )
