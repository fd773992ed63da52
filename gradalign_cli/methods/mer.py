"""MER: gradients brought into line by steps one example at a time (Riemer et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import require
from gradalign_cli.methods.lookahead import one_by_one
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)


class MERState(NamedTuple):
    """step, within, current_factor: []."""

    step: Tensor
    within: Tensor
    current_factor: Tensor


def mer(batches: int, step: float, within: float, current_factor: float) -> Method:
    """Reptile over `batches` of the batch and a memory batch, one SGD step an example.

    After each of them the parameters go back to p0 + within (p - p0), with p0 those before it (the
    paper's beta), and after all of them to p0 + gamma (p - p0), with p0 those before the first:
    `optimizer.lr` = gamma * step. The current examples come first, as in the published code.

    Algorithm 1 is the general case, with optimizer.batch_size 1 and k - 1 = memory_batch;
    algorithm 6 has one batch; algorithm 7 one batch whose current example takes a step
    `current_factor` times as long.
    """
    require(batches > 0, "method.batches", "positive", batches)
    require(step > 0, "method.step", "positive", step)
    require(within > 0, "method.within", "positive", within)
    require(current_factor > 0, "method.current_factor", "positive", current_factor)

    def init(setting: MethodSetup) -> MERState:
        return MERState(*map(setting.params.new_tensor, (step, within, current_factor)))

    def derive(
        derivative: TakeGradient, trial: LossInputs, state: MERState
    ) -> tuple[ObjectiveGradient, MERState]:
        now, statistics = trial.params, trial.statistics
        values, logits = [], []
        for memory in trial.memory_batches:
            start = now
            for number, one in enumerate(one_by_one(concatenate_examples(trial.batch, memory))):
                current = number < len(trial.batch.target)
                here = trial._replace(params=now, statistics=statistics, batch=one)
                g, (value, output) = derivative(here)
                now = now - (state.step * state.current_factor if current else state.step) * g
                statistics = output.statistics
                if current:
                    values.append(value)
                    logits.append(output.logits)
            now = start + state.within * (now - start)
        seen = output._replace(logits=torch.cat(logits), statistics=statistics)
        return ((trial.params - now) / state.step, (torch.stack(values).mean(), seen)), state

    return Method(keep_gradient, find_gradient=derive, memory_batches=batches, init=init)
