"""HAL: keep the answers on learned anchors, examples that the network would forget (Chaudhry et al.
2021)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.errors import require
from gradalign_cli.methods.anchors import fine_tuned_on_memory, learned_anchors
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.model import Output


class HALState(NamedTuple):
    """strength, lr, decay: [] hyper-parameters;  mean_feature_vector: [F] running mean of the
    current task;  anchors: [k, channels, height, width] of ended tasks;  anchor_masks: [k, outputs]
    which logits are visible to the task of each anchor, none for padding.

    Replicas that train together and whose tasks had different numbers of classes are padded with
    anchors of zeros. BatchNorm counts these in its batch: with it, train such replicas apart.
    """

    strength: Tensor
    lr: Tensor
    decay: Tensor
    mean_feature_vector: Tensor
    anchors: Tensor
    anchor_masks: Tensor


def mean_anchor_distance(
    logits: Tensor, other_logits: Tensor, visible_logit_masks: Tensor
) -> Tensor:
    """The mean [] over anchors, and over the visible logits of each, of the squared difference of
    two networks' logits [k, outputs]; 0 where there is no anchor.
    visible_logit_masks: [k, outputs].
    """
    squares = torch.where(visible_logit_masks, (other_logits - logits).square(), 0.0)
    means = squares.sum(1) / visible_logit_masks.sum(1).clamp_min(1)
    return means.sum() / visible_logit_masks.any(1).sum().clamp_min(1)


def replay_or_anchor_distance(inputs: LossInputs, state: HALState) -> tuple[Tensor, Output]:
    """The `objective` of HAL: the mean cross-entropy of the batch and a memory batch; where anchors
    follow the memory batch, the weighted distance of their logits to those that are stored with
    them instead."""
    memory_batch, *anchors = inputs.memory_batches
    if not anchors:
        batch = concatenate_examples(inputs.batch, memory_batch)
        return batch_cross_entropy(inputs._replace(batch=batch), state)
    (examples,) = anchors
    assert isinstance(examples.visible_logit_mask, Tensor)
    output = inputs.network(inputs.params, inputs.statistics, examples)
    stored_logits, masks = examples.stored_logits, examples.visible_logit_mask
    return state.strength * mean_anchor_distance(output.logits, stored_logits, masks), output


def anchor_examples(batch_if_no_anchors: Examples, state: HALState) -> Examples:
    """The anchors as examples without a target. While there are none, a batch stands for them, and
    none of its logits counts."""
    images, masks = state.anchors, state.anchor_masks
    if not len(images):
        images = batch_if_no_anchors.images
        masks = masks.new_zeros(len(images), masks.shape[1])
    target = masks.long().argmax(1)
    return Examples(images, target, masks, (), images.new_zeros(len(images), 0))


def anchored_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: HALState
) -> tuple[ObjectiveGradient, HALState]:
    """The `find_gradient` of HAL: the gradient of the cross-entropy, and that of the distance of
    the anchors' logits to what a step along the first gradient would make of them."""
    g, (value, output) = take_gradient(inputs)
    anchors = anchor_examples(inputs.batch, state)
    with torch.no_grad():
        later_params = inputs.params.detach() - state.lr * g
        later_logits = inputs.network(later_params, inputs.statistics, anchors).logits
        features = output.features[: len(inputs.batch.target)].mean(0)
    anchors = anchors._replace(stored_logits=later_logits)
    memory_batches = (*inputs.memory_batches, anchors)
    anchor_g, (distance, _) = take_gradient(inputs._replace(memory_batches=memory_batches))
    mean_feature_vector = state.decay * state.mean_feature_vector + (1 - state.decay) * features
    state = state._replace(mean_feature_vector=mean_feature_vector)
    return (g + anchor_g, (value + distance, output)), state


def hal(
    strength: float,
    lr: float,
    decay: float,
    gamma: float,
    anchor_steps: int,
    tuning_steps: int,
    tuning_batch_size: int,
) -> Method:
    """ER + strength * the mean squared change of the logits of anchors under a step of ER's, with
    one anchor for each class of each ended task (arXiv 2002.08165).

    When a task has ended, the anchor of each of its classes is sought where the loss would rise
    most if the network was fine-tuned on the memory, near the mean feature of the task.

    lr: of the step of ER's, of fine-tuning and of the search; the paper takes the learning rate.
    decay: of the running mean of the features of the task's batches, which is 0 when it begins
    (the paper's beta). Features are those before the step, the published ones those after it.
    gamma: the weight of the distance to this mean, in the search.
    anchor_steps: of the search.
    tuning_steps, tuning_batch_size: of fine-tuning on the memory. The paper passes over the memory
    once, DER's authors, whose code this follows in all else, take one step.
    """
    for name, number in (("strength", strength), ("lr", lr), ("gamma", gamma)):
        require(number >= 0, f"method.{name}", "non-negative", number)
    require(0 <= decay <= 1, "method.decay", "in [0, 1]", decay)
    for name, count in (("anchor_steps", anchor_steps), ("tuning_steps", tuning_steps)):
        require(count >= 0, f"method.{name}", "non-negative", count)
    require(tuning_batch_size > 0, "method.tuning_batch_size", "positive", tuning_batch_size)

    def init(setup: MethodSetup) -> HALState:
        features = last_layer(setup.layers, setup.outputs).feature_count
        new = setup.params.new_zeros
        masks = new(0, setup.outputs, dtype=torch.bool)
        number = setup.params.new_tensor
        numbers = number(strength), number(lr), number(decay)
        return HALState(*numbers, new(features), new(0, 0, 0, 0), masks)

    def end_task(state: HALState, params: Tensor, probe: Probe) -> HALState:
        tuned_params = fine_tuned_on_memory(
            params, probe, state.lr, tuning_steps, tuning_batch_size
        )
        images, masks = learned_anchors(
            params, tuned_params, state.mean_feature_vector, probe, state.lr, anchor_steps, gamma
        )
        if len(state.anchors):
            images = torch.cat([state.anchors, images])
            masks = torch.cat([state.anchor_masks, masks])
        no_mean_yet = torch.zeros_like(state.mean_feature_vector)
        return state._replace(mean_feature_vector=no_mean_yet, anchors=images, anchor_masks=masks)

    return Method(
        keep_gradient,
        objective=replay_or_anchor_distance,
        find_gradient=anchored_gradient,
        gradient_count=lambda b, m: 2,
        memory_batches=1,
        init=init,
        end_task=end_task,
    )
