"""LwF: keep the old network's outputs on new examples (Li & Hoiem 2016, eq. 2-4)."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.errors import require, require_choice
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    Probe,
    batch_cross_entropy,
    keep_gradient,
    unchanged_state_and_params,
)
from gradalign_cli.methods.warm_up import with_trained_new_logits
from gradalign_cli.models.model import Output

Softmax = Literal["per_task", "joint"]


class LwFState(NamedTuple):
    """strength, temperature: [] the hyper-parameters of `lwf`;  old_params: [P] at the end of the
    last task;  old_logit_masks: [T, outputs] 1 for the logits that are targets in each ended
    task."""

    strength: Tensor
    temperature: Tensor
    old_params: Tensor
    old_logit_masks: Tensor


def distillation_loss(
    logits: Tensor, old_logits: Tensor, logit_masks: Tensor, temperature: Tensor
) -> Tensor:
    """The sum [] over the masks [T, outputs] that are not empty of the mean cross-entropy between
    the softmax of the old and of the current network over the logits of a mask.

    logits, old_logits: [n, outputs] of the two networks.
    """
    ended = logit_masks.sum(1) > 0  # [T]
    hidden = (logit_masks == 0) & ended[:, None]  # nothing is hidden where nothing counts

    def soften(logits: Tensor) -> Tensor:
        # finite, as 0 * infinity below would not be a number
        return (logits / temperature).masked_fill(hidden[:, None], -1e9)  # [T, n, outputs]

    target = torch.softmax(soften(old_logits), 2)
    losses = -(target * torch.log_softmax(soften(logits), 2)).sum(2).mean(1)
    return torch.where(ended, losses, 0.0).sum()


def lwf_objective(softmax: Softmax, inputs: LossInputs, state: LwFState) -> tuple[Tensor, Output]:
    """The cross-entropy of the batch and the weighted distillation loss; softmax: see `lwf`."""
    value, output = batch_cross_entropy(inputs, state)
    # without keys the old network drops no units, as when it was tested
    batch = inputs.batch._replace(noise_keys=())
    old_output = inputs.network(state.old_params, inputs.statistics, batch)
    masks = state.old_logit_masks
    masks = masks if softmax == "per_task" else masks.amax(0, keepdim=True)
    logits = output.logits, old_output.logits
    return value + state.strength * distillation_loss(*logits, masks, state.temperature), output


def lwf(
    strength: float,
    temperature: float,
    softmax: Softmax,
    warm_up_passes: int,
    warm_up_lr: float,
    warm_up_batch_size: int,
) -> Method:
    """The cross-entropy of the batch + strength * the cross-entropy between the old network's and
    the current network's softmax at a temperature, on the batch.

    softmax: `per_task` sums over the old tasks, each with a softmax over the logits that are its
    targets, as the paper does (eq. 4). `joint` takes one softmax over the logits of all old tasks,
    for networks that are tested so; in class-incremental runs both are sensible, and in domain-
    incremental ones, where all tasks have the same logits, `per_task` counts them once a task.
    The old network is the one at the end of the last task. Both networks use the batch's statistics
    in BatchNorm.
    warm_up_passes: passes over a task, before its first step, that train the last layer's weights
    of its new logits alone, as in DER's published code; warm_up_lr, warm_up_batch_size: the step
    size and the batch size of these.
    """
    require(strength >= 0, "method.strength", "non-negative", strength)
    require(temperature > 0, "method.temperature", "positive", temperature)
    require_choice(Softmax, "method.softmax", softmax)
    require(warm_up_passes >= 0, "method.warm_up_passes", "non-negative", warm_up_passes)
    require(warm_up_lr >= 0, "method.warm_up_lr", "non-negative", warm_up_lr)
    require(warm_up_batch_size > 0, "method.warm_up_batch_size", "positive", warm_up_batch_size)

    def init(setup: MethodSetup) -> LwFState:
        if warm_up_passes:
            last_layer(setup.layers, setup.outputs)  # the warm-up trains it
        number = setup.params.new_tensor
        masks = setup.params.new_zeros(setup.tasks, setup.outputs)
        return LwFState(number(strength), number(temperature), setup.params, masks)

    def begin_task(state: LwFState, params: Tensor, probe: Probe) -> tuple[LwFState, Tensor]:
        new_logit_mask = probe.task_logit_mask * (state.old_logit_masks.sum(0) == 0)
        if probe.task == 0:
            return state, params
        settings = warm_up_lr, warm_up_passes, warm_up_batch_size
        return state, with_trained_new_logits(params, new_logit_mask, probe, *settings)

    def end_task(state: LwFState, params: Tensor, probe: Probe) -> LwFState:
        masks = state.old_logit_masks.clone()
        masks[probe.task] = probe.task_logit_mask
        return state._replace(old_params=params, old_logit_masks=masks)

    return Method(
        keep_gradient,
        objective=partial(lwf_objective, softmax),
        init=init,
        begin_task=begin_task if warm_up_passes else unchanged_state_and_params,
        end_task=end_task,
    )
