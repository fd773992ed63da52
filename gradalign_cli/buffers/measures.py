"""What the network tells a buffer that asks: losses, or cosines between gradients."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.models.model import Network
from gradalign_cli.numerics.trees import Absent, tree_map
from gradalign_cli.numerics.vectors import ratio_or_zero

FEW = 64  # gradients at a time: more take memory for no gain, fewer meet many stored ones too often


def losses(
    network: Network, params: Tensor, statistics: Tensor, arrived: Examples, stored: Examples
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each arrival [batch] and stored example [n]; 0 where its weight is 0."""
    both = concatenate_examples(arrived, stored)
    found = cross_entropies(network(params, statistics, both).logits, both)
    return found[: len(arrived.target)], found[len(arrived.target) :]


def cosines(
    network: Network, params: Tensor, statistics: Tensor, arrived: Examples, stored: Examples
) -> tuple[Tensor, Absent]:
    """The cosine [batch, n] of the gradient of each arrival's cross-entropy to that of each stored
    example; 0 where one of them is 0, as it is where the weight is."""

    def loss(params: Tensor, one: Examples) -> Tensor:
        return cross_entropies(network(params, statistics, one).logits, one)[0]

    def gradients(examples: Examples) -> Tensor:
        alone = tree_map(lambda field: field[:, None], examples)
        found: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, alone)
        return found

    theirs, found = gradients(stored), []
    for first in range(0, len(arrived.target), FEW):
        own = gradients(tree_map(lambda field, k=first: field[k : k + FEW], arrived))
        lengths = own.norm(dim=1)[:, None] * theirs.norm(dim=1)
        found.append(ratio_or_zero(own @ theirs.T, lengths))
    return torch.cat(found), ()
