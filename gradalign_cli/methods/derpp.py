"""DER++: DER, and the labels of a second memory batch (Buzzega et al. 2020, eq. 7)."""

from typing import NamedTuple

from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.der import distance
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output


class Weights(NamedTuple):
    """alpha, beta: [] the weights of the stored logits and of the labels."""

    alpha: Tensor
    beta: Tensor


def derpp(alpha: float, beta: float) -> Method:
    """DER's objective + beta * cross-entropy on another, independently drawn memory batch."""
    require(alpha >= 0, "method.alpha", "non-negative", alpha)
    require(beta >= 0, "method.beta", "non-negative", beta)

    def init(setting: MethodSetup) -> Weights:
        return Weights(setting.params.new_tensor(alpha), setting.params.new_tensor(beta))

    def objective(trial: LossInputs, state: Weights) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(trial, state)
        first, second = trial.memory_batches
        one = trial.network(trial.params, output.statistics, first)
        two = trial.network(trial.params, one.statistics, second)
        value = value + state.alpha * distance(one.logits, first)
        value = value + state.beta * cross_entropy(two.logits, second)
        return value, output._replace(statistics=two.statistics)

    return Method(
        keep_gradient, objective=objective, init=init, memory_batches=2, stores_logits=True
    )
