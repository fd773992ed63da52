"""LwF: new examples should be answered as before the task (Li & Hoiem 2016, eq. 2-4)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    Probe,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.model import Output


class LwFState(NamedTuple):
    """strength, temperature: [];  params: [P] before the task;  learned: [outputs] 1 for the logits
    that earlier tasks used."""

    strength: Tensor
    temperature: Tensor
    params: Tensor
    learned: Tensor


def lwf(strength: float, temperature: float) -> Method:
    """Cross-entropy on the batch + strength * cross-entropy to the old network's soft answers.

    Answers are over the logits that earlier tasks used, softened by the temperature. A network with
    BatchNorm is asked, old as new, with the statistics of the batch.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(temperature > 0, "method.temperature", "positive", temperature)

    def init(setting: MethodSetup) -> LwFState:
        number = setting.params.new_tensor
        learned = setting.params.new_zeros(setting.outputs)
        return LwFState(number(strength), number(temperature), setting.params, learned)

    def objective(trial: LossInputs, state: LwFState) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(trial, state)
        quiet = trial.batch._replace(noise_keys=())  # old answers are as they were tested
        before = trial.network(state.params, trial.statistics, quiet).logits
        some = state.learned.sum() > 0
        hidden = (state.learned == 0) & some  # with nothing learned there is nothing to hide

        def soften(logits: Tensor) -> Tensor:
            return (logits / state.temperature).masked_fill(hidden, -1e9)

        soft = torch.softmax(soften(before), 1)
        each = -(soft * torch.log_softmax(soften(output.logits), 1)).sum(1)
        return value + torch.where(some, state.strength, 0.0) * each.mean(), output

    def end_task(state: LwFState, params: Tensor, probe: Probe) -> LwFState:
        return state._replace(
            params=params, learned=torch.maximum(state.learned, probe.task_logits)
        )

    return Method(keep_gradient, objective=objective, init=init, end_task=end_task)
