"""CLS-ER: replay beside two slow copies of the network (Arani, Sarfraz & Zonooz 2022, alg. 1).

The formulas are those of the published code (NeurAI-Lab/CLS-ER, models/clser.py). Two things depart
from it: a copy has no running statistics of BatchNorm, so it is tested with the network's, and
logits that an example's task hides do not count in the distance to the copies.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples, mask_logits
from gradalign_cli.errors import require
from gradalign_cli.methods.der import mean_stored_logit_distance
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    batch_cross_entropy,
)
from gradalign_cli.models.model import Layer, Output


class SlowCopy(NamedTuple):
    """params: [P] a running mean of the network's parameters;  frequency: [] the chance that a step
    moves it;  decay: [] the share of the old mean that a move leaves."""

    params: Tensor
    frequency: Tensor
    decay: Tensor


class CLSERState(NamedTuple):
    """stable, plastic: the copies;  consistency: [] the weight of their logits;  steps: [] taken
    so far;  random_number: [] of the step."""

    stable: SlowCopy
    plastic: SlowCopy
    consistency: Tensor
    steps: Tensor
    random_number: Tensor


def move_copy(copy: SlowCopy, params: Tensor, is_moved: Tensor, step_number: Tensor) -> SlowCopy:
    """The copy after a step, moved towards params [P] where `is_moved` []: the share that stays is
    decay, or 1 - 1 / (step_number + 1) where that is less (eq. 2 and 3).

    step_number: [] counted from 1.
    """
    decay = torch.minimum(1 - 1 / (step_number + 1), copy.decay)
    mean = decay * copy.params + (1 - decay) * params
    return copy._replace(params=torch.where(is_moved, mean, copy.params))


def target_probability(logits: Tensor, examples: Examples) -> Tensor:
    """The probability [n, 1] of the right class under logits [n, outputs]."""
    probabilities = mask_logits(logits, examples.visible_logit_mask).softmax(1)
    return probabilities.gather(1, examples.target[:, None])


def draw_two_events(
    random_number: Tensor, first_probability: Tensor, second_probability: Tensor
) -> tuple[Tensor, Tensor]:
    """Two independent events with these probabilities [], from one number [] of the uniform
    distribution on [0, 1): given the first event, or not, what remains of the number is uniform
    again."""
    happens = random_number < first_probability
    rest = torch.where(happens, random_number, random_number - first_probability)
    range_of_rest = torch.where(happens, first_probability, 1 - first_probability)
    return happens, rest < second_probability * range_of_rest


def cls_er_objective(inputs: LossInputs, state: CLSERState) -> tuple[Tensor, Output]:
    """The cross-entropy of batch and memory batch, and the weighted distance of the memory batch's
    logits to those of the better copy (eq. 4 to 6)."""
    (memory_batch,) = inputs.memory_batches
    stable, plastic = (
        inputs.network(copy.params, inputs.statistics, memory_batch).logits
        for copy in (state.stable, state.plastic)
    )
    stable_is_better = target_probability(stable, memory_batch) > target_probability(
        plastic, memory_batch
    )
    better_logits = torch.where(stable_is_better, stable, plastic)
    output = inputs.network(inputs.params, inputs.statistics, memory_batch)
    distance = mean_stored_logit_distance(
        output.logits, memory_batch._replace(stored_logits=better_logits)
    )
    batch = concatenate_examples(inputs.batch, memory_batch)
    replay = inputs._replace(batch=batch, statistics=output.statistics)
    value, output = batch_cross_entropy(replay, state)
    return value + state.consistency * distance, output


def move_copies(
    state: CLSERState, unaligned_g: Tensor, params_before: Tensor, params_after: Tensor
) -> CLSERState:
    """The state after a step that led to `params_after` [P], with the copies that move."""
    steps, stable, plastic = state.steps + 1, state.stable, state.plastic
    plastic_moves, stable_moves = draw_two_events(
        state.random_number, plastic.frequency, stable.frequency
    )
    return state._replace(
        stable=move_copy(stable, params_after, stable_moves, steps),
        plastic=move_copy(plastic, params_after, plastic_moves, steps),
        steps=steps,
    )


def cls_er(
    consistency: float,
    stable_frequency: float,
    stable_decay: float,
    plastic_frequency: float,
    plastic_decay: float,
) -> Method:
    """ER's loss + consistency * the mean squared distance between the logits of a memory batch and
    those of the copy that is more certain of the right class (arXiv 2201.12604, eq. 4 to 6).

    Each step moves a copy with the probability `frequency` towards the network's parameters; decay:
    the share of the copy that stays. The stable copy moves less often, and is the one tested.
    """
    require(consistency >= 0, "method.consistency", "non-negative", consistency)
    shares = {
        "stable_frequency": stable_frequency,
        "stable_decay": stable_decay,
        "plastic_frequency": plastic_frequency,
        "plastic_decay": plastic_decay,
    }
    for name, share in shares.items():
        require(0 <= share <= 1, f"method.{name}", "in [0, 1]", share)

    def init(setup: MethodSetup) -> CLSERState:
        params, number = setup.params, setup.params.new_tensor
        stable = SlowCopy(params, number(stable_frequency), number(stable_decay))
        plastic = SlowCopy(params, number(plastic_frequency), number(plastic_decay))
        return CLSERState(stable, plastic, number(consistency), number(0.0), number(0.0))

    def align(gradients: Gradients, state: CLSERState) -> tuple[Tensor, CLSERState]:
        return gradients.g, state._replace(random_number=gradients.random_numbers[0])

    def test_params(
        state: CLSERState, params: Tensor, task: int, layers: tuple[Layer, ...]
    ) -> Tensor:
        return state.stable.params

    return Method(
        align,
        objective=cls_er_objective,
        memory_batches=1,
        init=init,
        after_step=move_copies,
        test_params=test_params,
        needs_random_numbers=True,
    )
