"""FS-DGPM: GPM that learns the importance of each basis column, and seeks flat minima (Deng et al.
2021)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    Gradients,
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    Probe,
    TakeGradient,
)
from gradalign_cli.methods.subspace import (
    GrowthRule,
    columns_to_add,
    empty_subspaces,
    layer_matrices,
    map_matrices,
    project_off_bases,
    projection_off,
    representation_matrices,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.generators import permutation


class FSDGPMState(NamedTuple):
    """bases: M [d, w] of the inputs in memory, for each projected layer;  raw_importance: [w] for
    each of these layers, see `column_importance`;  ended_tasks: [] number of tasks that have ended;
    ascent, rate, temperature, start: [] hyper-parameters."""

    bases: tuple[Tensor, ...]
    raw_importance: tuple[Tensor, ...]
    ended_tasks: Tensor
    ascent: Tensor
    rate: Tensor
    temperature: Tensor
    start: Tensor


def column_importance(state: FSDGPMState) -> list[Tensor]:
    """The importance [w] in (0, 1) of the columns of each basis."""
    return [torch.sigmoid(state.temperature * raw) for raw in state.raw_importance]


def ascend(
    take_gradient: TakeGradient, inputs: LossInputs, state: FSDGPMState, steps: int
) -> tuple[Tensor, Tensor]:
    """The parameters [P] after steps up the loss of the batch, and the sum [P] of the gradients of
    these steps. A step goes along each column of the bases in proportion to its importance, and in
    no other direction."""
    params, gradient_sum = inputs.params, torch.zeros_like(inputs.params)
    importance = column_importance(state)
    for _ in range(steps):
        g, _ = take_gradient(inputs._replace(params=params))
        functions = map(projection_off, state.bases, importance)
        g_within_bases = g - map_matrices(g, inputs.layers, functions)
        params, gradient_sum = params + state.ascent * g_within_bases, gradient_sum + g
    return params, gradient_sum


def learn_importance(
    state: FSDGPMState, layers: tuple[Layer, ...], gradient_sum: Tensor, g: Tensor
) -> FSDGPMState:
    """The state after a gradient step of the raw importance, with the sum [P] of the gradients of
    the ascent and the gradient g [P] where it ends."""
    columns = zip(state.bases, state.raw_importance, column_importance(state), strict=True)
    gradients = zip(layer_matrices(gradient_sum, layers), layer_matrices(g, layers), strict=True)
    raw_importance = []
    for (M, raw, importance), (G_sum, G) in zip(columns, gradients, strict=False):
        importance_gradient = state.ascent * ((G_sum @ M) * (G @ M)).sum(0)
        raw_gradient = state.temperature * importance * (1 - importance) * importance_gradient
        raw_importance.append(raw - state.rate * raw_gradient)
    return state._replace(raw_importance=tuple(raw_importance))


def ascended_gradient(
    steps: int, take_gradient: TakeGradient, inputs: LossInputs, state: FSDGPMState
) -> tuple[ObjectiveGradient, FSDGPMState]:
    """The `find_gradient` of FS-DGPM, for a number of ascent steps: the gradient on batch and
    memory after the ascent, and the state with the importance learned from it."""
    params, gradient_sum = ascend(take_gradient, inputs, state, steps)
    examples = concatenate_examples(inputs.batch, *inputs.memory_batches)
    g, value_and_output = take_gradient(inputs._replace(params=params, batch=examples))
    state = learn_importance(state, inputs.layers, gradient_sum, g)
    return (g, value_and_output), state


def align_by_importance(gradients: Gradients, state: FSDGPMState) -> tuple[Tensor, FSDGPMState]:
    """The `align` of FS-DGPM: g, projected off each column in proportion to its importance."""
    importance = column_importance(state)
    direction = project_off_bases(
        gradients.g, gradients.layers, state.bases, importance, state.ended_tasks
    )
    return direction, state


def memory_representations(probe: Probe, samples: int) -> list[Tensor]:
    """The representation matrices of all layers for at most `samples` examples, drawn at random
    from the memory without replacement."""
    generator = torch.Generator().manual_seed(probe.task)
    slots = probe.filled_slot_indices
    order = permutation(len(slots), generator).to(slots.device)
    layer_inputs = probe.memory_layer_inputs(slots[order[:samples]])
    return representation_matrices(layer_inputs, probe.layers)


def fs_dgpm(
    thresholds: list[float],
    increase: float,
    samples: int,
    project_head: bool,
    steps: int,
    ascent: float,
    rate: float,
    temperature: float,
    start: float,
) -> Method:
    """The gradient on batch and memory, taken after an ascent of the loss within the bases, and
    projected off each of their columns in proportion to its importance (arXiv 2110.04593).

    The loss after the ascent is also descended in the importance. The importance of a column falls
    where the gradient of the batch along it agrees with the gradient on batch and memory, and rises
    where the two conflict.

    steps, ascent: the number of ascent steps on the loss of the batch, and their size (the paper's
    eta_1).
    rate: the step size of the raw importance (eta_2). Its gradient is of first order: the gradients
    of the ascent are held constant.
    temperature, start: the importance is sigmoid(temperature * raw importance), and the raw
    importance is `start` when a task begins.
    samples: how many examples in memory the bases are computed from, anew when a task has ended.
    The other arguments are those of `GrowthRule` and `gpm`.
    """
    growth_rule = GrowthRule(thresholds, increase, "strict")
    growth_rule.check()
    for name, count in (("samples", samples), ("steps", steps)):
        require(count > 0, f"method.{name}", "positive", count)
    for name, number in (("ascent", ascent), ("rate", rate), ("temperature", temperature)):
        require(number >= 0, f"method.{name}", "non-negative", number)

    def init(setup: MethodSetup) -> FSDGPMState:
        subspaces = empty_subspaces(setup, growth_rule, project_head)
        numbers = map(setup.params.new_tensor, (ascent, rate, temperature, start))
        return FSDGPMState(*subspaces, *numbers)

    def end_task(state: FSDGPMState, params: Tensor, probe: Probe) -> FSDGPMState:
        R = memory_representations(probe, samples)
        bases = tuple(
            columns_to_add(M[:, :0], R[k], growth_rule.threshold(k, probe.task), False)[0]
            for k, M in enumerate(state.bases)
        )
        return state._replace(
            bases=bases,
            raw_importance=tuple(state.start.expand_as(M[0]).clone() for M in bases),
            ended_tasks=state.ended_tasks + 1,
        )

    return Method(
        align_by_importance,
        find_gradient=partial(ascended_gradient, steps),
        gradient_count=lambda b, m: steps + 1,
        memory_batches=1,
        init=init,
        end_task=end_task,
    )
