"""Anchors: inputs that the network would answer worse after fine-tuning on the memory (Chaudhry et
al. 2021, arXiv 2002.08165)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.methods.method import Probe
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.numerics.generators import permutation


def fine_tuned_on_memory(
    params: Tensor, probe: Probe, lr: Tensor, steps: int, batch_size: int
) -> Tensor:
    """The parameters [P] after steps of SGD on batches of the memory, drawn without replacement
    until it is used up."""
    source = torch.Generator().manual_seed(probe.task)
    slots = probe.filled_slot_indices
    batches: list[Tensor] = []
    while len(slots) and len(batches) < steps:
        batches += slots[permutation(len(slots), source).to(slots.device)].split(batch_size)
    for batch in batches[:steps]:
        params = params - lr * probe.memory_gradient(params, batch)
    return params


class Anchors(NamedTuple):
    """images: [k, channels, height, width];  visible_logit_masks: [k, outputs] which logits are
    visible to each."""

    images: Tensor
    visible_logit_masks: Tensor


def learned_anchors(
    params: Tensor,
    tuned_params: Tensor,
    mean_feature_vector: Tensor,
    probe: Probe,
    lr: Tensor,
    steps: int,
    gamma: float,
) -> Anchors:
    """One anchor for each class of the ended task.

    From uniform pixels, steps of gradient descent on the cross-entropy at the parameters [P], minus
    that at the fine-tuned ones, plus gamma * the squared distance of the features to
    `mean_feature_vector` [F].
    """
    like = probe.examples(probe.rows[:1])
    target = probe.task_logit_mask.nonzero()[:, 0]
    shape, source = (len(target), *like.images.shape[1:]), torch.Generator()
    pixels = torch.rand(shape, generator=source.manual_seed(probe.task), device=source.device)
    masks = torch.ones(len(target), len(probe.task_logit_mask), device=target.device) > 0
    if isinstance(like.visible_logit_mask, Tensor):
        masks = masks & like.visible_logit_mask

    def loss(images: Tensor) -> Tensor:
        anchors = Examples(images, target, masks, (), images[:, :0])
        output = probe.network(params, probe.statistics, anchors)
        tuned_logits = probe.network(tuned_params, probe.statistics, anchors).logits
        forgetting = cross_entropies(tuned_logits, anchors) - cross_entropies(
            output.logits, anchors
        )
        distances = (output.features - mean_feature_vector).square().sum(1)
        return (gamma * distances - forgetting).sum()

    images = pixels.to(params)
    for _ in range(steps):
        images = images - lr * torch.func.grad(loss)(images)
    return Anchors(images, masks)
