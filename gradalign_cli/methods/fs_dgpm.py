"""FS-DGPM: GPM that learns how much each direction matters, in flat places (Deng et al. 2021)."""

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
    Rule,
    columns_to_add,
    in_matrices,
    matrices,
    nothing_held,
    off,
    project,
    representations,
)
from gradalign_cli.numerics.generators import permutation


class FSDGPMState(NamedTuple):
    """Of each projected layer: bases [d, w] of the inputs in memory;  raw [w] whose sigmoid is the
    importance of each column. tasks: [] that ended;  ascent, rate, temperature, start: []."""

    bases: tuple[Tensor, ...]
    raw: tuple[Tensor, ...]
    tasks: Tensor
    ascent: Tensor
    rate: Tensor
    temperature: Tensor
    start: Tensor


def soft(state: FSDGPMState) -> list[Tensor]:
    """The importance [w] in (0, 1) of the columns of each basis."""
    return [torch.sigmoid(state.temperature * raw) for raw in state.raw]


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
    """The gradient on batch and memory, found where the loss is higher within the bases, and kept
    off each of their columns in proportion to its importance (arXiv 2110.04593).

    The loss up there is descended in the importance too: that of a column falls where the batch's
    gradient along it agrees with the gradient on batch and memory, and rises where they conflict.
    steps, ascent: how many steps up the loss of the batch, and their size (the paper's eta_1).
    rate: the step size of the importance (eta_2), which is sigmoid(temperature * raw), with raw =
    start for a new task; its slope is of first order, the gradients of the climb held fixed. The
    bases are found anew from `samples` of the memory whenever a task has ended; the other arguments
    are those of `Rule` and `gpm`.
    """
    rule = Rule(thresholds, increase, "strict")
    rule.check()
    for name, count in (("samples", samples), ("steps", steps)):
        require(count > 0, f"method.{name}", "positive", count)
    for name, number in (("ascent", ascent), ("rate", rate), ("temperature", temperature)):
        require(number >= 0, f"method.{name}", "non-negative", number)

    def init(setting: MethodSetup) -> FSDGPMState:
        empty = nothing_held(setting, rule, project_head)
        numbers = map(setting.params.new_tensor, (ascent, rate, temperature, start))
        return FSDGPMState(empty.bases, empty.importance, empty.tasks, *numbers)

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: FSDGPMState
    ) -> tuple[ObjectiveGradient, FSDGPMState]:
        layers, params, path = trial.layers, trial.params, torch.zeros_like(trial.params)
        importance = soft(state)
        for _ in range(steps):
            g, _ = derivative(trial._replace(params=params))
            within = g - in_matrices(g, layers, map(off, state.bases, importance))
            params, path = params + state.ascent * within, path + g
        both = concatenate_examples(trial.batch, *trial.memory_batches)
        g, rest = derivative(trial._replace(params=params, batch=both))
        held = zip(state.bases, state.raw, importance, strict=True)
        gradients = zip(matrices(path, layers), matrices(g, layers), strict=True)
        learned = []
        for (M, raw, weight), (climb, there) in zip(held, gradients, strict=False):
            slope = state.ascent * ((climb @ M) * (there @ M)).sum(0)  # of the loss, by importance
            by_raw = state.temperature * weight * (1 - weight) * slope
            learned.append(raw - state.rate * by_raw)
        return (g, rest), state._replace(raw=tuple(learned))

    def align(gradients: Gradients, state: FSDGPMState) -> tuple[Tensor, FSDGPMState]:
        held = state.bases, soft(state), state.tasks
        return project(gradients.g, gradients.layers, *held), state

    def end_task(state: FSDGPMState, params: Tensor, probe: Probe) -> FSDGPMState:
        source = torch.Generator().manual_seed(probe.task)
        order = permutation(len(probe.filled_slots), source).to(probe.filled_slots.device)
        shown = probe.memory_layer_inputs(probe.filled_slots[order[:samples]])
        found, bases = representations(shown, probe.layers), []
        for number, old in enumerate(state.bases):
            threshold = rule.threshold(number, probe.task)
            bases.append(columns_to_add(old[:, :0], found[number], threshold, False)[0])
        raw = tuple(state.start.expand_as(M[0]).clone() for M in bases)
        return state._replace(bases=tuple(bases), raw=raw, tasks=state.tasks + 1)

    return Method(align, find_gradient=derive, memory_batches=1, init=init, end_task=end_task)
