"""C-MAML: the gradient on batch and memory after steps on the batch (Gupta et al. 2020)."""

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


class CMAMLState(NamedTuple):
    """step: [] of the imagined steps."""

    step: Tensor


def c_maml(step: float) -> Method:
    """The first-order hypergradient of a step on each example of the batch (arXiv 2007.13904,
    alg. 2). step: the size of these steps, the paper's alpha.
    """
    require(step >= 0, "method.step", "non-negative", step)

    def init(setting: MethodSetup) -> CMAMLState:
        return CMAMLState(setting.params.new_tensor(step))

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: CMAMLState
    ) -> tuple[ObjectiveGradient, CMAMLState]:
        found, _ = looked_ahead(derivative, trial, state.step)
        return found, state

    return Method(keep_gradient, find_gradient=derive, memory_batches=1, init=init)
