"""FS-DGPM: GPM that learns the importance of each basis column, and seeks flat minima (Deng et al.
2021)."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
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
    BasisSizeRule,
    columns_to_add,
    empty_subspaces,
    layer_matrices,
    map_layer_matrices,
    project_off_bases,
    projection_on,
    representation_matrices,
    require_layer_inputs,
)
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.generators import permutation
from gradalign_cli.numerics.trees import tree_map


class FSDGPMState(NamedTuple):
    """bases: M [d, w] of the inputs in memory, for each projected layer;  raw_importance: [w] for
    each of these layers, see `column_importance`;  ended_tasks: [] number of tasks that have ended;
    climb_lr, importance_lr, temperature, initial_importance: [] hyper-parameters."""

    bases: tuple[Tensor, ...]
    raw_importance: tuple[Tensor, ...]
    ended_tasks: Tensor
    climb_lr: Tensor
    importance_lr: Tensor
    temperature: Tensor
    initial_importance: Tensor


def column_importance(state: FSDGPMState) -> list[Tensor]:
    """The importance [w] in (0, 1) of the columns of each basis."""
    return [torch.sigmoid(state.temperature * raw) for raw in state.raw_importance]


def piece_starts(batch_size: int, pieces: int) -> range:
    """Where the pieces of a batch begin: as many as asked for, of equal size; the last one may be
    smaller, and there are fewer where the batch has too few examples."""
    return range(0, batch_size, math.ceil(batch_size / pieces))


def pieces_of_batch(batch: Examples, pieces: int) -> list[Examples]:
    """A batch cut into pieces, see `piece_starts`."""
    starts = piece_starts(len(batch.target), pieces)
    return [
        tree_map(lambda field, first=first: field[first : first + starts.step], batch)
        for first in starts
    ]


def climb(params: Tensor, g: Tensor, layers: tuple[Layer, ...], state: FSDGPMState) -> Tensor:
    """The parameters [P] after a step up a loss with the gradient g [P]: along g where there are no
    bases, which is everywhere in the first task and later in the layers without one; else along
    each column of the bases in proportion to its importance."""
    functions = map(projection_on, state.bases, column_importance(state))
    within_bases = map_layer_matrices(g, layers, functions)
    return params + state.climb_lr * torch.where(state.ended_tasks > 0, within_bases, g)


def importance_gradients(
    state: FSDGPMState, layers: tuple[Layer, ...], climb_gradient_sum: Tensor, g: Tensor
) -> list[Tensor]:
    """The gradient [w] of a loss after a climb with respect to the importance of the columns of
    each basis, from the sum [P] of the gradients of the climb, held constant, and the gradient g
    [P] of the loss."""
    matrices = zip(
        state.bases,
        layer_matrices(climb_gradient_sum, layers),
        layer_matrices(g, layers),
        strict=False,
    )
    return [state.climb_lr * ((G_sum @ M) * (G @ M)).sum(0) for M, G_sum, G in matrices]


def learn_importance(state: FSDGPMState, importance_gradients: list[Tensor]) -> FSDGPMState:
    """The state after a step down the gradients [w] with respect to the importance of the columns
    of each basis."""
    columns = zip(state.raw_importance, column_importance(state), importance_gradients, strict=True)
    raw_importance = tuple(
        raw - state.importance_lr * state.temperature * importance * (1 - importance) * gradient
        for raw, importance, gradient in columns
    )
    return state._replace(raw_importance=raw_importance)


def fs_dgpm_gradient(
    pieces: int, take_gradient: TakeGradient, inputs: LossInputs, state: FSDGPMState
) -> tuple[ObjectiveGradient, FSDGPMState]:
    """The `find_gradient` of FS-DGPM: the mean of the gradients on batch and memory after each of
    the climbs, and the state with the importance learned from them."""
    examples = concatenate_examples(inputs.batch, *inputs.memory_batches)
    params, climb_gradient_sum = inputs.params, torch.zeros_like(inputs.params)
    gradients, values, gradients_of_importance = [], [], []
    for piece in pieces_of_batch(inputs.batch, pieces):
        piece_gradient, _ = take_gradient(inputs._replace(params=params, batch=piece))
        params = climb(params, piece_gradient, inputs.layers, state)
        climb_gradient_sum = climb_gradient_sum + piece_gradient
        g, (value, output) = take_gradient(inputs._replace(params=params, batch=examples))
        gradients.append(g)
        values.append(value)
        gradients_of_importance.append(
            importance_gradients(state, inputs.layers, climb_gradient_sum, g)
        )
    state = learn_importance(
        state, [torch.stack(each).mean(0) for each in zip(*gradients_of_importance, strict=True)]
    )
    return (torch.stack(gradients).mean(0), (torch.stack(values).mean(), output)), state


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


def end_fs_dgpm_task(
    basis_size_rule: BasisSizeRule, samples: int, state: FSDGPMState, params: Tensor, probe: Probe
) -> FSDGPMState:
    """The `end_task` of FS-DGPM: new bases of the inputs in memory, with the initial importance."""
    R = memory_representations(probe, samples)
    bases = tuple(
        columns_to_add(M[:, :0], R[k], basis_size_rule.threshold(k, probe.task), False)[0]
        for k, M in enumerate(state.bases)
    )
    return state._replace(
        bases=bases,
        raw_importance=tuple(state.initial_importance.expand_as(M[0]).clone() for M in bases),
        ended_tasks=state.ended_tasks + 1,
    )


def fs_dgpm(
    thresholds: list[float],
    increase: float,
    samples: int,
    project_head: bool,
    pieces: int,
    climb_lr: float,
    importance_lr: float,
    temperature: float,
    initial_importance: float,
) -> Method:
    """The gradient on batch and memory, taken after climbs within the bases, and projected off each
    of their columns in proportion to its importance (arXiv 2110.04593).

    As in the published code, the batch is cut into pieces, and each piece's loss is climbed by one
    step from where the last climb ended. The gradients on the whole batch and a memory batch after
    each climb are averaged. The first task has no bases: it climbs in the whole space. Descending
    the same mean loss in the importance, and only then in the parameters, is also the code's order.
    The importance of a column falls where the gradients of the pieces along it agree with that on
    batch and memory, and rises where they conflict. The published code also clips gradients and
    has momentum, which is not done here.

    pieces: how many pieces the batch is cut into, each with a climb.
    climb_lr: the step size of a climb (the paper's eta_1).
    importance_lr: the step size of the raw importance (eta_2). Its gradient is of first order, as
    the published code's is on permuted images: the gradients of the climbs are held constant.
    temperature, initial_importance: the importance is sigmoid(temperature * raw importance), and
    the raw importance is `initial_importance` when a task begins.
    samples: how many examples in memory the bases are computed from, anew when a task has ended.
    The other arguments are those of `BasisSizeRule` and `gpm`.
    """
    basis_size_rule = BasisSizeRule(thresholds, increase, "strict")
    basis_size_rule.check()
    for name, count in (("samples", samples), ("pieces", pieces)):
        require(count > 0, f"method.{name}", "positive", count)
    for name, number in (
        ("climb_lr", climb_lr),
        ("importance_lr", importance_lr),
        ("temperature", temperature),
    ):
        require(number >= 0, f"method.{name}", "non-negative", number)

    def init(setup: MethodSetup) -> FSDGPMState:
        require_layer_inputs(setup)
        subspaces = empty_subspaces(setup, basis_size_rule, project_head)
        numbers = map(
            setup.params.new_tensor, (climb_lr, importance_lr, temperature, initial_importance)
        )
        return FSDGPMState(*subspaces, *numbers)

    return Method(
        align_by_importance,
        find_gradient=partial(fs_dgpm_gradient, pieces),
        gradient_count=lambda b, m: 2 * len(piece_starts(b, pieces)),
        memory_batches=1,
        init=init,
        end_task=partial(end_fs_dgpm_task, basis_size_rule, samples),
        claims=("does_not_lengthen", "acts_without_memory"),
    )
