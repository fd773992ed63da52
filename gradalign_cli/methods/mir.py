"""MIR: replay what the coming step would forget most (Aljundi et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples, concatenate_examples
from gradalign_cli.errors import require
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)
from gradalign_cli.models.losses import cross_entropies
from gradalign_cli.numerics.trees import take_rows, tree_map


class MIRState(NamedTuple):
    """step: [] of the step that is imagined."""

    step: Tensor


def losses(trial: LossInputs, params: Tensor, examples: Examples) -> Tensor:
    """The loss of each example [n]; 0 where none is there."""
    output = trial.network(params, trial.statistics, examples)
    return cross_entropies(output.logits, examples)


def mir(chosen: int, step: float) -> Method:
    """ER with those of the memory batch whose loss would grow most (arXiv 1908.04742, sec. 3.1).

    A step on the batch alone is imagined, and the growth of the loss of every candidate seen;
    `memory_batch` says how many candidates are read. chosen: how many of them are replayed.
    step: the size of the imagined step; the paper takes the learning rate.
    """
    require(chosen > 0, "method.chosen", "positive", chosen)
    require(step > 0, "method.step", "positive", step)

    def init(setting: MethodSetup) -> MIRState:
        return MIRState(setting.params.new_tensor(step))

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: MIRState
    ) -> tuple[ObjectiveGradient, MIRState]:
        (memory,) = trial.memory_batches
        assert isinstance(memory.valid, Tensor)
        there = memory.valid > 0
        here = trial.params.detach()
        g, _ = derivative(trial)
        with torch.no_grad():
            before = losses(trial, here, memory)
            growth = losses(trial, here - state.step * g, memory) - before
        ranked = torch.where(there, growth, -torch.inf)
        worst = ranked.topk(min(chosen, len(ranked))).indices
        replayed = tree_map(lambda field: take_rows(field, worst), memory)
        return derivative(trial._replace(batch=concatenate_examples(trial.batch, replayed))), state

    return Method(keep_gradient, find_gradient=derive, memory_batches=1, init=init)
