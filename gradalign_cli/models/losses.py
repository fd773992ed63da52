"""Losses of logits, over the examples that count."""

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.examples import Examples, mask_logits
from gradalign_cli.numerics.trees import Absent

IGNORED = -100  # a label that counts for nothing


def cross_entropy(logits: Tensor, examples: Examples) -> Tensor:
    """Mean cross-entropy [] of logits [n, outputs] over the examples of weight 1."""
    logits, label, weight = (
        mask_logits(logits, examples.visible_logits),
        examples.target,
        examples.valid,
    )
    if not isinstance(weight, Tensor):
        return functional.cross_entropy(logits, label)
    # what only fills a place may have a label its task cannot see, and 0 * inf is not 0
    label = torch.where(weight > 0, label, IGNORED)
    total = functional.cross_entropy(logits, label, ignore_index=IGNORED, reduction="sum")
    return total / weight.sum().clamp_min(1)


def cross_entropies(logits: Tensor, examples: Examples) -> Tensor:
    """Cross-entropy [n] of logits [n, outputs]; 0 where the weight is 0."""
    label, weight = examples.target, examples.valid
    if isinstance(weight, Tensor):
        label = torch.where(weight > 0, label, IGNORED)
    return functional.cross_entropy(
        mask_logits(logits, examples.visible_logits), label, reduction="none"
    )


def mean_over_valid(each: Tensor, weight: Tensor | Absent) -> Tensor:
    """The mean [] of a number of each example [n] over the examples of weight 1."""
    if not isinstance(weight, Tensor):
        return each.mean()
    return each @ (weight / weight.sum().clamp_min(1))
