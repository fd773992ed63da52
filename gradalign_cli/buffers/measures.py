"""What a buffer can measure on the network (`Buffer.measures`): the losses of examples, or the
cosines between their gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.models.model import Network
from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.numerics.vectors import ratio_or_zero

# gradients of arrivals taken at a time: more take memory for no gain, and with fewer the stored
# examples' gradients are read too often
GRADIENTS_AT_ONCE = 64


class MeasuredLosses(NamedTuple):
    """The cross-entropy of each arrival [batch] and of each stored example [n]; 0 for padding."""

    of_arrivals: Tensor
    of_stored: Tensor


class CosinesWithStored(NamedTuple):
    """The cosines between the cross-entropy gradient of each stored example and those of each
    arrival [batch, n] and of all arrivals together [n]. 0 where a gradient is 0, as for padding."""

    of_each_arrival: Tensor
    of_batch: Tensor


def measure_losses(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> MeasuredLosses:
    """The losses of arrivals and of stored examples."""
    examples = concatenate_examples(arrivals, stored)
    losses = cross_entropies(network(params, statistics, examples).logits, examples)
    return MeasuredLosses(losses[: len(arrivals.target)], losses[len(arrivals.target) :])


def measure_cosines(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> CosinesWithStored:
    """The cosines between the gradients of arrivals and of stored examples."""

    def loss(params: Tensor, example: Examples) -> Tensor:
        return cross_entropies(network(params, statistics, example).logits, example)[0]

    def sample_gradients(examples: Examples) -> Tensor:
        single_examples = tree_map(lambda field: field[:, None], examples)
        gradients: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(
            params, single_examples
        )
        return gradients

    stored_gradients, cosines = sample_gradients(stored), []
    batch_gradient = torch.zeros_like(params)
    for first in range(0, len(arrivals.target), GRADIENTS_AT_ONCE):
        piece = slice(first, first + GRADIENTS_AT_ONCE)
        gradients = sample_gradients(tree_map(lambda field, piece=piece: field[piece], arrivals))
        lengths = gradients.norm(dim=1)[:, None] * stored_gradients.norm(dim=1)
        cosines.append(ratio_or_zero(gradients @ stored_gradients.T, lengths))
        batch_gradient = batch_gradient + gradients.sum(0)
    lengths = batch_gradient.norm() * stored_gradients.norm(dim=1)
    batch_gradient_cosines = ratio_or_zero(stored_gradients @ batch_gradient, lengths)
    return CosinesWithStored(torch.cat(cosines), batch_gradient_cosines)
