"""STAR: replay, and answers to memory that survive the worst nearby weights (Eskandar et al. 2025).

The formulas are those of arXiv 2503.01595 as Mammoth has them (models/star_utils, er_star.py), with
ER as the loss that the term is added to. One thing departs from Mammoth: the search for the worst
weights starts at random a tenth of the radius away from the weights, where the divergence has a
gradient well above rounding. Mammoth starts 1e-20 of their length away, which float32 rounds to
nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples, mask_logits
from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    batch_cross_entropy,
)
from gradalign_cli.models.model import Layer, Output
from gradalign_cli.numerics.noise import key_from, normal_numbers
from gradalign_cli.numerics.vectors import ratio_or_zero

START = 0.1  # of the radius: where the search for the worst weights starts


class STARState(NamedTuple):
    """gamma, strength: [] the hyper-parameters of `star`;  random_number: [] drawn in the last
    step."""

    gamma: Tensor
    strength: Tensor
    random_number: Tensor


def scaled_to_weights(
    direction: Tensor, params: Tensor, layers: tuple[Layer, ...], radius: Tensor
) -> Tensor:
    """A direction [P] whose part for each matrix is `radius` [] times as long as the matrix, and
    0 for biases and BatchNorm."""
    parts, start = [], 0
    for layer in layers:
        stop = start + layer.size
        matrix_stop = stop - layer.matrix_rows * layer.has_bias if layer.matrix_rows else start
        d, w = direction[start:matrix_stop], params[start:matrix_stop]
        parts += [radius * w.norm() * ratio_or_zero(torch.ones_like(radius), d.norm()) * d]
        parts += [torch.zeros_like(direction[matrix_stop:stop])]
        start = stop
    return torch.cat(parts)


def divergence_from_correct_answers(
    logits: Tensor, old_logits: Tensor, examples: Examples
) -> Tensor:
    """The mean Kullback-Leibler divergence [] from the answers of `old_logits` to those of `logits`
    [n, outputs], over the valid examples that the old answers have right; 0 where they are fewer
    than two."""
    old_log = mask_logits(old_logits, examples.visible_logit_mask).log_softmax(1)
    new_log = mask_logits(logits, examples.visible_logit_mask).log_softmax(1)
    old = old_log.exp()
    divergences = torch.where(old > 0, old * (old_log - new_log), 0.0).sum(1)
    assert isinstance(examples.valid, Tensor)
    counted = (old.argmax(1) == examples.target) & (examples.valid > 0)
    counted = counted & (counted.sum() >= 2)
    return torch.where(counted, divergences, 0.0).sum() / counted.sum().clamp_min(1)


def star(gamma: float, strength: float) -> Method:
    """ER's loss + strength * the largest divergence between the answers to a memory batch at the
    weights and at weights with |change| <= gamma |weights| in each matrix.

    The largest divergence is taken at one step of that length along its gradient. The memory batch
    is not ER's but another one.
    """
    require(gamma >= 0, "method.gamma", "non-negative", gamma)
    require(strength >= 0, "method.strength", "non-negative", strength)

    def init(setup: MethodSetup) -> STARState:
        return STARState(*map(setup.params.new_tensor, (gamma, strength, 0.0)))

    def objective(inputs: LossInputs, state: STARState) -> tuple[Tensor, Output]:
        batch = concatenate_examples(inputs.batch, inputs.memory_batches[0])
        return batch_cross_entropy(inputs._replace(batch=batch), state)

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: STARState
    ) -> tuple[ObjectiveGradient, STARState]:
        memory_batch, params = inputs.memory_batches[1], inputs.params.detach()
        with torch.no_grad():
            old = inputs.network(params, inputs.statistics, memory_batch)

        def divergence_from_old(inputs: LossInputs, state: STARState) -> tuple[Tensor, Output]:
            output = inputs.network(inputs.params, old.statistics, memory_batch)
            return divergence_from_correct_answers(output.logits, old.logits, memory_batch), output

        noise = normal_numbers(key_from(state.random_number), params)
        start = scaled_to_weights(noise, params, inputs.layers, START * state.gamma)
        uphill, _ = take_gradient(inputs._replace(params=params + start), divergence_from_old)
        change = scaled_to_weights(uphill, params, inputs.layers, state.gamma)
        worst = inputs._replace(params=params + change)
        g_star, (value_star, output) = take_gradient(worst, divergence_from_old)
        g, (value, output) = take_gradient(inputs._replace(statistics=output.statistics))
        value = value + state.strength * value_star
        return (g + state.strength * g_star, (value, output)), state

    def align(gradients: Gradients, state: STARState) -> tuple[Tensor, STARState]:
        return gradients.g, state._replace(random_number=gradients.random_numbers[0])

    return Method(
        align,
        objective=objective,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: 3,
        memory_batches=2,
        init=init,
        needs_random_numbers=True,
    )
