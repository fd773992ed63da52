"""What a buffer can measure on the network (`Buffer.measures`): the losses of examples, or the
cosines between their gradients."""

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.models.model import Network
from gradalign_cli.numerics.trees import Absent, tree_map
from gradalign_cli.numerics.vectors import ratio_or_zero

# gradients of arrivals taken at a time: more take memory for no gain, and with fewer the stored
# examples' gradients are read too often
GRADIENTS_AT_ONCE = 64


def measure_losses(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each arrival [batch] and of each stored example [n]; 0 for padding."""
    examples = concatenate_examples(arrivals, stored)
    losses = cross_entropies(network(params, statistics, examples).logits, examples)
    return losses[: len(arrivals.target)], losses[len(arrivals.target) :]


def measure_cosines(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> tuple[Tensor, Absent]:
    """The cosine [batch, n] between the cross-entropy gradients of each arrival and each stored
    example, and nothing of the stored examples alone. 0 where a gradient is 0, as for padding."""

    def loss(params: Tensor, example: Examples) -> Tensor:
        return cross_entropies(network(params, statistics, example).logits, example)[0]

    def sample_gradients(examples: Examples) -> Tensor:
        single_examples = tree_map(lambda field: field[:, None], examples)
        gradients: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(
            params, single_examples
        )
        return gradients

    stored_gradients, cosines = sample_gradients(stored), []
    for first in range(0, len(arrivals.target), GRADIENTS_AT_ONCE):
        piece = slice(first, first + GRADIENTS_AT_ONCE)
        gradients = sample_gradients(tree_map(lambda field, piece=piece: field[piece], arrivals))
        lengths = gradients.norm(dim=1)[:, None] * stored_gradients.norm(dim=1)
        cosines.append(ratio_or_zero(gradients @ stored_gradients.T, lengths))
    return torch.cat(cosines), ()
