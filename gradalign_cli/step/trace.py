"""What a step shows of the alignment."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.step.references import References

ROUNDING = 1e-4  # the cosine that the rounding of a float32 projection may leave


class Trace(NamedTuple):
    """What one step shows of the alignment, each []; NaN where nothing was measured.

    loss: the objective;  reference_loss: mean loss on the memory;  cosine: the smallest between g
    and a reference;  violated: 1 if a dot product of g and a reference is negative;  norm_ratio:
    |direction| / |g|;  applied_update_violates: 1 if the applied change has a positive dot
    product with a reference, by more than rounding: it raises the loss there to first order.
    """

    loss: Tensor
    reference_loss: Tensor
    cosine: Tensor
    violated: Tensor
    norm_ratio: Tensor
    applied_update_violates: Tensor


class LossTrace(NamedTuple):
    """What a step shows that is not measured: the loss of its objective."""

    loss: Tensor


def stack_traces(traces: Sequence[Trace | LossTrace]) -> Trace:
    """The traces [steps, ...] of several steps, NaN where a step was not measured."""
    unknown = torch.full_like(traces[0].loss, torch.nan)
    complete = [
        trace if isinstance(trace, Trace) else Trace(trace.loss, *(unknown,) * 5)
        for trace in traces
    ]
    return tree_stack(complete)


def measured_trace(
    loss: Tensor, g: Tensor, references: References, direction: Tensor, params_change: Tensor
) -> Trace:
    """The trace of a step with loss [], gradient and direction [P], that changed the parameters by
    `params_change` [P]."""
    unknown = torch.full_like(loss, torch.nan)
    ratio = direction.norm() / g.norm()
    gradients, losses, available, _ = references
    if not len(gradients):
        return Trace(loss, unknown, unknown, unknown, ratio, unknown)
    lengths, dots = gradients.norm(dim=1), gradients @ g
    cosines = torch.where(available, dots / (lengths * g.norm()), torch.inf)
    reference_loss = torch.where(available, losses, 0.0).sum() / available.sum()
    violated = ((dots < 0) & available).any().to(loss.dtype)
    harmed = gradients @ params_change > ROUNDING * lengths * params_change.norm()
    broken = (harmed & available).any().to(loss.dtype)
    measured = (reference_loss, cosines.min(), violated, ratio, broken)
    any_available = available.any()
    return Trace(loss, *(torch.where(any_available, part, unknown) for part in measured))
