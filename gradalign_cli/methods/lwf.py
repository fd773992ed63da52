"""LwF: keep the old network's outputs on new examples (Li & Hoiem 2016, eq. 2-4)."""

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
    """strength, temperature: [] the hyper-parameters of `lwf`;  old_params: [P] at the end of the
    last task;  old_logit_mask: [outputs] 1 for the logits that are targets in an ended task."""

    strength: Tensor
    temperature: Tensor
    old_params: Tensor
    old_logit_mask: Tensor


def distillation_loss(logits: Tensor, old_logits: Tensor, state: LwFState) -> Tensor:
    """strength * the mean cross-entropy [] between the old and the current softmax, from the logits
    [n, outputs] of the current and the old network; 0 before the first task has ended."""
    any_ended = state.old_logit_mask.sum() > 0
    hidden = (state.old_logit_mask == 0) & any_ended  # none before a task has ended

    def soften(logits: Tensor) -> Tensor:
        # finite, as 0 * infinity below would not be a number
        return (logits / state.temperature).masked_fill(hidden, -1e9)

    target = torch.softmax(soften(old_logits), 1)
    losses = -(target * torch.log_softmax(soften(logits), 1)).sum(1)
    return torch.where(any_ended, state.strength, 0.0) * losses.mean()


def lwf(strength: float, temperature: float) -> Method:
    """The cross-entropy of the batch + strength * the cross-entropy between the old network's and
    the current network's softmax at a temperature, on the batch.

    The old network is the one at the end of the last task. The softmax is over the logits that are
    targets in ended tasks. Both networks use the batch's statistics in BatchNorm.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(temperature > 0, "method.temperature", "positive", temperature)

    def init(setup: MethodSetup) -> LwFState:
        number = setup.params.new_tensor
        old_logit_mask = setup.params.new_zeros(setup.outputs)
        return LwFState(number(strength), number(temperature), setup.params, old_logit_mask)

    def objective(inputs: LossInputs, state: LwFState) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(inputs, state)
        # without keys the old network drops no units, as when it was tested
        batch = inputs.batch._replace(noise_keys=())
        old_output = inputs.network(state.old_params, inputs.statistics, batch)
        return value + distillation_loss(output.logits, old_output.logits, state), output

    def end_task(state: LwFState, params: Tensor, probe: Probe) -> LwFState:
        old_logit_mask = torch.maximum(state.old_logit_mask, probe.task_logits)
        return state._replace(old_params=params, old_logit_mask=old_logit_mask)

    return Method(keep_gradient, objective=objective, init=init, end_task=end_task)
