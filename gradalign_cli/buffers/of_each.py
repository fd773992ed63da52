"""The loss and the gradient of each example, for the buffers that want to know them."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.methods.method import cross_entropy_of_each
from gradalign_cli.models.model import Network
from gradalign_cli.trees import tree_map


def losses_of_each(
    network: Network, params: Tensor, statistics: Tensor, examples: Examples
) -> Tensor:
    """The cross-entropy [n] of each example; 0 where its weight is 0."""
    return cross_entropy_of_each(network(params, statistics, examples).logits, examples)


def gradients_of_each(
    network: Network, params: Tensor, statistics: Tensor, examples: Examples
) -> Tensor:
    """The gradient [n, P] of the cross-entropy of each example; 0 where its weight is 0."""

    def loss(params: Tensor, example: Examples) -> Tensor:
        return losses_of_each(network, params, statistics, example)[0]

    alone = tree_map(lambda field: field[:, None], examples)
    found: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, alone)
    return found
