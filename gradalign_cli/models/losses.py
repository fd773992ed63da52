"""Cross-entropies of logits, over the examples that are valid."""

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.examples import Examples, mask_logits
from gradalign_cli.numerics.trees import Absent

IGNORED_TARGET = -100  # PyTorch's cross_entropy ignores examples with this target


def cross_entropy(logits: Tensor, examples: Examples) -> Tensor:
    """The mean cross-entropy [] of logits [n, outputs] over the valid examples."""
    logits, target, valid = (
        mask_logits(logits, examples.visible_logit_mask),
        examples.target,
        examples.valid,
    )
    if not isinstance(valid, Tensor):
        return functional.cross_entropy(logits, target)
    # the target of an invalid example may be a masked logit: its loss is infinite, and 0 * inf is
    # not 0
    target = torch.where(valid > 0, target, IGNORED_TARGET)
    total = functional.cross_entropy(logits, target, ignore_index=IGNORED_TARGET, reduction="sum")
    return total / valid.sum().clamp_min(1)


def cross_entropies(logits: Tensor, examples: Examples) -> Tensor:
    """The cross-entropy [n] of each example's logits [n, outputs]; 0 where it is not valid."""
    target, valid = examples.target, examples.valid
    if isinstance(valid, Tensor):
        target = torch.where(valid > 0, target, IGNORED_TARGET)
    return functional.cross_entropy(
        mask_logits(logits, examples.visible_logit_mask), target, reduction="none"
    )


def mean_over_valid(values: Tensor, valid: Tensor | Absent) -> Tensor:
    """The mean [] of the values [n] of n examples over those that are valid."""
    if not isinstance(valid, Tensor):
        return values.mean()
    return values @ (valid / valid.sum().clamp_min(1))
