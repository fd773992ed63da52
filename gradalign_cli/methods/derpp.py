"""DER++: DER, and the labels of a second memory batch (Buzzega et al. 2020, eq. 7)."""

from typing import NamedTuple

from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.der import mean_stored_logit_distance
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output


class DERPPState(NamedTuple):
    """alpha, beta: [] the weights of the stored logits and of the labels."""

    alpha: Tensor
    beta: Tensor


def derpp(alpha: float, beta: float) -> Method:
    """DER's objective + beta * the cross-entropy of a second, independently drawn memory batch."""
    require(alpha >= 0, "method.alpha", "non-negative", alpha)
    require(beta >= 0, "method.beta", "non-negative", beta)

    def init(setup: MethodSetup) -> DERPPState:
        return DERPPState(setup.params.new_tensor(alpha), setup.params.new_tensor(beta))

    def objective(inputs: LossInputs, state: DERPPState) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(inputs, state)
        logit_batch, label_batch = inputs.memory_batches
        logit_output = inputs.network(inputs.params, output.statistics, logit_batch)
        label_output = inputs.network(inputs.params, logit_output.statistics, label_batch)
        value = value + state.alpha * mean_stored_logit_distance(logit_output.logits, logit_batch)
        value = value + state.beta * cross_entropy(label_output.logits, label_batch)
        return value, output._replace(statistics=label_output.statistics)

    return Method(
        keep_gradient, objective=objective, init=init, memory_batches=2, stores_logits=True
    )
