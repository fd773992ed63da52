"""DER: remember not only examples but the logits they had (Buzzega et al. 2020, eq. 6)."""

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


class Weight(NamedTuple):
    """alpha: [] the weight of the distance to the stored logits."""

    alpha: Tensor


def distance(logits: Tensor, examples: Examples) -> Tensor:
    """Mean squared difference [] of logits [n, outputs] to the stored ones, over those that count
    and over the examples of weight 1."""
    squares = (logits - examples.stored_logits).square()
    if isinstance(examples.visible_logits, Tensor):
        each = torch.where(examples.visible_logits, squares, 0.0).sum(
            1
        ) / examples.visible_logits.sum(1)
    else:
        each = squares.mean(1)
    return mean_over_valid(each, examples.valid)


def der(alpha: float) -> Method:
    """Cross-entropy on the batch + alpha * distance of a memory batch's logits to its stored ones.

    An example is stored with the logits it had in the step that brought it.
    """
    require(alpha >= 0, "method.alpha", "non-negative", alpha)

    def init(setting: MethodSetup) -> Weight:
        return Weight(setting.params.new_tensor(alpha))

    def objective(trial: LossInputs, state: Weight) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(trial, state)
        (memory,) = trial.memory_batches
        again = trial.network(trial.params, output.statistics, memory)
        value = value + state.alpha * distance(again.logits, memory)
        return value, output._replace(statistics=again.statistics)

    return Method(
        keep_gradient, objective=objective, init=init, memory_batches=1, stores_logits=True
    )
