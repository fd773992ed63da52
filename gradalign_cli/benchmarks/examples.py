"""Examples as the network meets them."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import Absent, tree_map


class Examples(NamedTuple):
    """Examples as the network meets them.

    x: [n, channels, height, width];  label: [n] the right logit;  visible: [n, outputs] the logits
    that count, or absent;  weight: [n] 1, or 0 for what only fills a place, absent where all count;
    stored: [n, K] the logits a memory keeps with an example, K = 0 where none;  noise: [n] a key of
    the random numbers that an example meets in the network (noise.py), absent where it meets none.
    """

    images: Tensor
    target: Tensor
    visible_logits: Tensor | Absent
    valid: Tensor | Absent
    stored_logits: Tensor
    noise_keys: Tensor | Absent = ()


ReferenceExamples = tuple[
    Examples, Tensor
]  # [M, n] of M references, and which [M] there are any of


def mask_logits(logits: Tensor, visible: Tensor | Absent) -> Tensor:
    """Logits `[n, outputs]` with those that do not count at minus infinity."""
    return logits.masked_fill(~visible, -torch.inf) if isinstance(visible, Tensor) else logits


def concatenate_examples(*parts: Examples) -> Examples:
    """All examples, one part after the other."""
    found: Examples = tree_map(lambda *fields: torch.cat(fields), *parts)
    return found
