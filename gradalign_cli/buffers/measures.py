"""What the network tells a buffer that asks: losses, or cosines between gradients."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Absent, Examples
from gradalign_cli.methods.method import cross_entropy_of_each, guarded_ratio, joined
from gradalign_cli.models.model import Network
from gradalign_cli.trees import tree_map

FEW = 64  # gradients at a time: more take memory for no gain, fewer meet many stored ones too often


def losses(
    network: Network, params: Tensor, statistics: Tensor, arrived: Examples, stored: Examples
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each arrival [batch] and stored example [n]; 0 where its weight is 0."""
    both = joined(arrived, stored)
    found = cross_entropy_of_each(network(params, statistics, both).logits, both)
    return found[: len(arrived.label)], found[len(arrived.label) :]


def cosines(
    network: Network, params: Tensor, statistics: Tensor, arrived: Examples, stored: Examples
) -> tuple[Tensor, Absent]:
    """The cosine [batch, n] of the gradient of each arrival's cross-entropy to that of each stored
    example; 0 where one of them is 0, as it is where the weight is."""

    def loss(params: Tensor, one: Examples) -> Tensor:
        return cross_entropy_of_each(network(params, statistics, one).logits, one)[0]

    def gradients(examples: Examples) -> Tensor:
        alone = tree_map(lambda field: field[:, None], examples)
        found: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, alone)
        return found

    theirs, found = gradients(stored), []
    for first in range(0, len(arrived.label), FEW):
        own = gradients(tree_map(lambda field, k=first: field[k : k + FEW], arrived))
        lengths = own.norm(dim=1)[:, None] * theirs.norm(dim=1)
        found.append(guarded_ratio(own @ theirs.T, lengths))
    return torch.cat(found), ()
