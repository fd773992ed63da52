"""C-MAML: the gradient on batch and memory after steps on the batch (Gupta et al. 2020)."""

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


class CMAMLState(NamedTuple):
    """lookahead_lr: [] the size of the look-ahead steps."""

    lookahead_lr: Tensor


def c_maml(lookahead_lr: float) -> Method:
    """The first-order hypergradient of one step on each example of the batch (arXiv 2007.13904,
    alg. 2).

    lookahead_lr: the size of these steps, the paper's alpha.
    """
    require(lookahead_lr >= 0, "method.lookahead_lr", "non-negative", lookahead_lr)

    def init(setup: MethodSetup) -> CMAMLState:
        return CMAMLState(setup.params.new_tensor(lookahead_lr))

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: CMAMLState
    ) -> tuple[ObjectiveGradient, CMAMLState]:
        objective_gradient, _ = lookahead_gradient(take_gradient, inputs, state.lookahead_lr)
        return objective_gradient, state

    return Method(
        keep_gradient,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: b + 1,
        memory_batches=1,
        init=init,
        claims=("acts_without_memory",),
    )
