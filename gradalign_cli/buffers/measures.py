"""What a buffer can measure on the network (`Buffer.measures`): the losses of examples, or the
cosines between their gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.models.model import FactoredGradients, FactoredGradientsOf, Network
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


class GradientProducts(NamedTuple):
    """What cosines between gradients are made of.

    dots:            [batch, n] of arrivals and stored examples.
    lengths:         [batch] of the arrivals' gradients.
    stored_lengths:  [n]
    dots_of_batch:   [n] of the sum of the arrivals' gradients.
    length_of_batch: [] of that sum.
    """

    dots: Tensor
    lengths: Tensor
    stored_lengths: Tensor
    dots_of_batch: Tensor
    length_of_batch: Tensor


def measure_losses(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> MeasuredLosses:
    """The losses of arrivals and of stored examples."""
    examples = concatenate_examples(arrivals, stored)
    losses = cross_entropies(network(params, statistics, examples).logits, examples)
    return MeasuredLosses(losses[: len(arrivals.target)], losses[len(arrivals.target) :])


def measure_cosines(
    network: Network,
    factored_gradients: FactoredGradientsOf | None,
    params: Tensor,
    statistics: Tensor,
    arrivals: Examples,
    stored: Examples,
) -> CosinesWithStored:
    """The cosines between the gradients of arrivals and of stored examples.

    factored_gradients: as in `Model`. Where it is None, the gradient of each example is computed
    whole, which takes far longer.
    """
    if factored_gradients is None:
        products = products_of_whole_gradients(network, params, statistics, arrivals, stored)
    else:

        def factored(examples: Examples) -> tuple[FactoredGradients, ...]:
            def loss(logits: Tensor) -> Tensor:
                return cross_entropies(logits, examples).sum()

            logits = network(params, statistics, examples).logits
            return factored_gradients(params, examples.images, torch.func.grad(loss)(logits))

        products = products_of_factored_gradients(factored(arrivals), factored(stored))
    return CosinesWithStored(
        ratio_or_zero(products.dots, products.lengths[:, None] * products.stored_lengths),
        ratio_or_zero(products.dots_of_batch, products.length_of_batch * products.stored_lengths),
    )


def products_of_whole_gradients(
    network: Network, params: Tensor, statistics: Tensor, arrivals: Examples, stored: Examples
) -> GradientProducts:
    """The products of gradients [P], each of which is computed."""

    def loss(params: Tensor, example: Examples) -> Tensor:
        return cross_entropies(network(params, statistics, example).logits, example)[0]

    def sample_gradients(examples: Examples) -> Tensor:
        single_examples = tree_map(lambda field: field[:, None], examples)
        gradients: Tensor = torch.func.vmap(torch.func.grad(loss), (None, 0))(
            params, single_examples
        )
        return gradients

    stored_gradients, dots, lengths = sample_gradients(stored), [], []
    batch_gradient = torch.zeros_like(params)
    for first in range(0, len(arrivals.target), GRADIENTS_AT_ONCE):
        piece = slice(first, first + GRADIENTS_AT_ONCE)
        gradients = sample_gradients(tree_map(lambda field, piece=piece: field[piece], arrivals))
        dots.append(gradients @ stored_gradients.T)
        lengths.append(gradients.norm(dim=1))
        batch_gradient = batch_gradient + gradients.sum(0)
    return GradientProducts(
        torch.cat(dots),
        torch.cat(lengths),
        stored_gradients.norm(dim=1),
        stored_gradients @ batch_gradient,
        batch_gradient.norm(),
    )


def products_of_factored_gradients(
    arrivals: tuple[FactoredGradients, ...], stored: tuple[FactoredGradients, ...]
) -> GradientProducts:
    """The products from those of the factors: (a ⊗ b) · (c ⊗ d) = (a · c) (b · d) in each layer."""
    dots, dots_of_batch, square_of_batch = [], [], []
    for (inputs, gradients), (stored_inputs, stored_gradients) in zip(
        arrivals, stored, strict=True
    ):
        dots.append((inputs @ stored_inputs.T) * (gradients @ stored_gradients.T))
        batch_gradient = gradients.T @ inputs
        dots_of_batch.append(((stored_gradients @ batch_gradient) * stored_inputs).sum(1))
        square_of_batch.append(batch_gradient.square().sum())
    return GradientProducts(
        torch.stack(dots).sum(0),
        factored_lengths(arrivals),
        factored_lengths(stored),
        torch.stack(dots_of_batch).sum(0),
        torch.stack(square_of_batch).sum().sqrt(),
    )


def factored_lengths(gradients: tuple[FactoredGradients, ...]) -> Tensor:
    """The lengths [n] of the gradients of n examples."""
    lengths = [layer.inputs.norm(dim=1) * layer.output_gradients.norm(dim=1) for layer in gradients]
    lengths_of_examples: Tensor = torch.stack(lengths).norm(dim=0)
    return lengths_of_examples
