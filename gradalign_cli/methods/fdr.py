"""FDR: stay near the function that the network was when tasks ended (Benjamin et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, mask_logits
from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.losses import mean_over_valid
from gradalign_cli.models.model import Output


class FDRState(NamedTuple):
    """alpha: [] the weight of the distance to the stored function."""

    alpha: Tensor


def mean_function_distance(logits: Tensor, examples: Examples) -> Tensor:
    """The mean [] over the valid examples of the Euclidean distance between the softmax of logits
    [n, outputs] and that of the stored logits, over the visible logits of each example."""
    visible = examples.visible_logit_mask
    probabilities = torch.softmax(mask_logits(logits, visible), 1)
    stored_probabilities = torch.softmax(mask_logits(examples.stored_logits, visible), 1)
    distances = torch.linalg.vector_norm(probabilities - stored_probabilities, dim=1)
    return mean_over_valid(distances, examples.valid)


def fdr(alpha: float) -> Method:
    """The cross-entropy of the batch + alpha * the mean Euclidean distance between the softmax of a
    memory batch and the softmax that it had when it was stored (arXiv 1805.08289).

    The method's yaml selects a buffer that stores examples, with their logits, at the end of tasks.
    DER's authors, whose code this follows in all else, take two steps in turn, one down the cross-
    entropy and one down the distance, which has no weight there. With alpha = 1 the sum of both
    gradients differs from that by the square of the step size.
    """
    require(alpha >= 0, "method.alpha", "non-negative", alpha)

    def init(setup: MethodSetup) -> FDRState:
        return FDRState(setup.params.new_tensor(alpha))

    def objective(inputs: LossInputs, state: FDRState) -> tuple[Tensor, Output]:
        value, output = batch_cross_entropy(inputs, state)
        (memory_batch,) = inputs.memory_batches
        memory_output = inputs.network(inputs.params, output.statistics, memory_batch)
        value = value + state.alpha * mean_function_distance(memory_output.logits, memory_batch)
        return value, output._replace(statistics=memory_output.statistics)

    return Method(
        keep_gradient, objective=objective, init=init, memory_batches=1, stores_logits=True
    )
