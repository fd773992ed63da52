"""DER: replay examples with the logits that they had on arrival (Buzzega et al. 2020, eq. 6)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.losses import mean_over_valid
from gradalign_cli.models.model import Output


class DERState(NamedTuple):
    """alpha: [] the weight of the distance to the stored logits."""

    alpha: Tensor


def mean_stored_logit_distance(logits: Tensor, examples: Examples) -> Tensor:
    """The mean squared difference [] between logits [n, outputs] and the stored logits, over the
    visible logits of each example and over the valid examples."""
    squares = (logits - examples.stored_logits).square()
    if isinstance(examples.visible_logit_mask, Tensor):
        visible = examples.visible_logit_mask
        means = torch.where(visible, squares, 0.0).sum(1) / visible.sum(1)
    else:
        means = squares.mean(1)
    return mean_over_valid(means, examples.valid)


def der(alpha: float) -> Method:
    """The cross-entropy of the batch + alpha * the mean squared distance between a memory batch's
    logits and its stored logits.

    An example is stored with the logits that it had in the step in which it arrived.
    """
    require(alpha >= 0, "method.alpha", "non-negative", alpha)

    def init(setup: MethodSetup) -> DERState:
        return DERState(setup.params.new_tensor(alpha))

    def objective(inputs: LossInputs, state: DERState) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(inputs, state)
        (memory_batch,) = inputs.memory_batches
        memory_output = inputs.network(inputs.params, output.statistics, memory_batch)
        value = value + state.alpha * mean_stored_logit_distance(memory_output.logits, memory_batch)
        return value, output._replace(statistics=memory_output.statistics)

    return Method(
        keep_gradient, objective=objective, init=init, memory_batches=1, stores_logits=True
    )
