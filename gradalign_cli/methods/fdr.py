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
    ObjectiveGradient,
    TakeGradient,
    batch_cross_entropy,
    keep_gradient,
)
from gradalign_cli.models.losses import mean_over_valid
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import Absent


class FDRState(NamedTuple):
    """alpha: [] the weight of the distance to the stored function;  lookahead_lr: [] the size of
    the step after which the distance is taken, absent where it is taken before."""

    alpha: Tensor
    lookahead_lr: Tensor | Absent


def mean_function_distance(logits: Tensor, examples: Examples) -> Tensor:
    """The mean [] over the valid examples of the Euclidean distance between the softmax of logits
    [n, outputs] and that of the stored logits, over the visible logits of each example."""
    visible = examples.visible_logit_mask
    probabilities = torch.softmax(mask_logits(logits, visible), 1)
    stored_probabilities = torch.softmax(mask_logits(examples.stored_logits, visible), 1)
    distances = torch.linalg.vector_norm(probabilities - stored_probabilities, dim=1)
    return mean_over_valid(distances, examples.valid)


def weighted_distance_term(inputs: LossInputs, state: FDRState) -> tuple[Tensor, Output]:
    """alpha * the distance [] of the memory batch, see `mean_function_distance`."""
    (memory_batch,) = inputs.memory_batches
    output = inputs.network(inputs.params, inputs.statistics, memory_batch)
    return state.alpha * mean_function_distance(output.logits, memory_batch), output


def fdr_objective(inputs: LossInputs, state: FDRState) -> tuple[Tensor, Output]:
    """The cross-entropy of the batch and the weighted distance."""
    value, output = batch_cross_entropy(inputs, state)
    inputs = inputs._replace(statistics=output.statistics)
    distance, memory_output = weighted_distance_term(inputs, state)
    return value + distance, output._replace(statistics=memory_output.statistics)


def gradient_of_two_steps(
    take_gradient: TakeGradient, inputs: LossInputs, state: FDRState
) -> tuple[ObjectiveGradient, FDRState]:
    """The gradient of the cross-entropy, and that of the distance after a step down the first."""
    assert isinstance(state.lookahead_lr, Tensor)
    g, (value, output) = take_gradient(inputs, batch_cross_entropy)
    later_params = inputs.params.detach() - state.lookahead_lr * g
    inputs = inputs._replace(params=later_params, statistics=output.statistics)
    distance_g, (distance, memory_output) = take_gradient(inputs, weighted_distance_term)
    output = output._replace(statistics=memory_output.statistics)
    return (g + distance_g, (value + distance, output)), state


def fdr(alpha: float, lookahead_lr: float | None) -> Method:
    """The cross-entropy of the batch + alpha * the mean Euclidean distance between the softmax of a
    memory batch and the softmax that it had when it was stored (arXiv 1805.08289).

    The method's yaml selects a buffer that stores examples, with their logits, at the end of tasks.
    lookahead_lr: None takes both gradients at the same parameters. With a number the second one is
    taken after a step of this size down the first; where it is the learning rate of SGD, a step is
    two steps in turn, as DER's authors take them (there the distance has no weight).
    """
    require(alpha >= 0, "method.alpha", "non-negative", alpha)
    if lookahead_lr is not None:
        require(lookahead_lr > 0, "method.lookahead_lr", "positive or null", lookahead_lr)

    def init(setup: MethodSetup) -> FDRState:
        number = setup.params.new_tensor
        return FDRState(number(alpha), () if lookahead_lr is None else number(lookahead_lr))

    method = Method(
        keep_gradient, objective=fdr_objective, init=init, memory_batches=1, stores_logits=True
    )
    if lookahead_lr is None:
        return method
    return method._replace(find_gradient=gradient_of_two_steps, gradient_count=lambda b, m: 2)
