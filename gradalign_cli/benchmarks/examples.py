"""Examples as the network sees them."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import Absent, tree_map


class Examples(NamedTuple):
    """A batch of examples as the network sees them.

    images:             [n, channels, height, width].
    target:             [n] the logit of the right class.
    visible_logit_mask: [n, outputs] whether the softmax includes a logit, absent where it includes
                        all.
    valid:              [n] 1, or 0 for padding, which counts for nothing; absent where all are
                        valid.
    stored_logits:      [n, K] the logits that the memory stores with an example, K = 0 where it
                        stores none.
    noise_keys:         [n] the key of the random numbers that the network uses on an example
                        (numerics/noise.py), absent where it uses none.
    """

    images: Tensor
    target: Tensor
    visible_logit_mask: Tensor | Absent
    valid: Tensor | Absent
    stored_logits: Tensor
    noise_keys: Tensor | Absent = ()


# the examples [M, n] of M references, and which [M] references have any; in a view's
# `cached_reference_examples` the examples [M, K] of all their slots, and which [M, K] of these may
# be read
ReferenceExamples = tuple[Examples, Tensor]


def mask_logits(logits: Tensor, visible_logit_mask: Tensor | Absent) -> Tensor:
    """Logits [n, outputs] with those that are not visible set to minus infinity."""
    if not isinstance(visible_logit_mask, Tensor):
        return logits
    return logits.masked_fill(~visible_logit_mask, -torch.inf)


def concatenate_examples(*batches: Examples) -> Examples:
    """The examples of all batches, one batch after the other."""
    concatenated: Examples = tree_map(lambda *fields: torch.cat(fields), *batches)
    return concatenated
