"""Reference gradients: the gradient of the cross-entropy on the memory of earlier tasks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.numerics.vectors import GradientAndValueFunction
from gradalign_cli.step.draws import Draw, augmenter, noise_keys
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.step.reading_sizes import reference_and_replay_sizes, reference_slot_indices
from gradalign_cli.step.reference_examples import make_reference_reader


class References(NamedTuple):
    """Gradients [M, P] and losses [M] on the memory of M references;  available: [M] False, and the
    gradient 0, where the memory holds nothing for one;  statistics: [S] the network's after the
    passes over the memory."""

    gradients: Tensor
    losses: Tensor
    available: Tensor
    statistics: Tensor


def no_references(learner: Learner) -> References:
    """What a step without references has: M = 0."""
    params = learner.params
    none = params.new_zeros(0, len(params))
    return References(none, params[:0], params[:0] > 0, learner.statistics)


def make_references(
    parts: Parts, past_tasks: int, differentiate: Callable[[Any], GradientAndValueFunction]
) -> Callable[[Learner, Draw, TaskViews], References]:
    """How a step takes reference gradients while `past_tasks` tasks are over, by `gradient`."""
    model, network = parts.model, make_network(parts.model, training=True)
    size, count = (
        reference_and_replay_sizes(parts, past_tasks)[0],
        len(reference_slot_indices(parts, past_tasks)),
    )
    if size == 0:
        return lambda learner, draw, view: no_references(learner)
    read_examples = make_reference_reader(parts, past_tasks)

    def loss(params: Tensor, statistics: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        output = network(params, statistics, examples)
        return cross_entropy(output.logits, examples), output.statistics

    def references(learner: Learner, draw: Draw, view: TaskViews) -> References:
        keys = noise_keys(draw, model, len(draw.rows), count, size)
        augment = augmenter(draw, parts.augmentation, len(draw.rows), count * size)
        examples, available = read_examples(
            learner.memory, view, draw.reference_uniform, draw.align_uniform, keys, augment
        )
        if not model.convolutional and count > 1:
            batched = torch.func.vmap(
                torch.func.grad_and_value(loss, has_aux=True), (None, None, 0)
            )
            gradients, (losses, _) = batched(learner.params, learner.statistics, examples)
            return References(gradients, losses, available, learner.statistics)
        # one after the other, as each pass moves BatchNorm's running statistics
        taken, values, statistics = [], [], learner.statistics
        for m in range(count):
            g, (value, statistics) = differentiate(loss)(
                learner.params, statistics, tree_index(examples, m)
            )
            taken.append(g)
            values.append(value)
        return References(tree_stack(taken), tree_stack(values), available, statistics)

    return references
