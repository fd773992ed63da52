"""MER: gradients brought into line by steps one example at a time (Riemer et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import require
from gradalign_cli.methods.lookahead import single_examples
from gradalign_cli.methods.method import (
    LossInputs,
    Method,
    MethodSetup,
    ObjectiveGradient,
    TakeGradient,
    keep_gradient,
)


class MERState(NamedTuple):
    """inner_lr, within_batch_factor, new_example_lr_factor: [] the hyper-parameters `inner_lr`,
    `within` and `current_factor` of `mer`."""

    inner_lr: Tensor
    within_batch_factor: Tensor
    new_example_lr_factor: Tensor


def reptile_gradient(
    take_gradient: TakeGradient, inputs: LossInputs, state: MERState
) -> tuple[ObjectiveGradient, MERState]:
    """The `find_gradient` of MER: the way of all rounds over `inner_lr`, so that an SGD step of
    that size goes it."""
    params, statistics = inputs.params, inputs.statistics
    values, logits = [], []
    for memory_batch in inputs.memory_batches:
        round_start = params
        examples = single_examples(concatenate_examples(inputs.batch, memory_batch))
        for number, example in enumerate(examples):
            is_new = number < len(inputs.batch.target)
            g, (value, output) = take_gradient(
                inputs._replace(params=params, statistics=statistics, batch=example)
            )
            params = (
                params
                - (state.inner_lr * state.new_example_lr_factor if is_new else state.inner_lr) * g
            )
            statistics = output.statistics
            if is_new:
                values.append(value)
                logits.append(output.logits)
        params = round_start + state.within_batch_factor * (params - round_start)
    output = output._replace(logits=torch.cat(logits), statistics=statistics)
    g = (inputs.params - params) / state.inner_lr
    return (g, (torch.stack(values).mean(), output)), state


def mer(batches: int, inner_lr: float, within: float, current_factor: float) -> Method:
    """Reptile: one SGD step on each example in turn, then a part of the way back.

    batches: how many memory batches are drawn. Each has a round of steps of size `inner_lr`, on the
    examples of the batch and then on those of the memory batch. The new examples come first, as in
    the published code.
    within: the paper's beta. After a round the parameters become p0 + beta (p - p0), with p0 those
    before the round.
    current_factor: how many times as long as `inner_lr` the steps on new examples are.
    The paper's gamma is set by `replicas.lr` = gamma * inner_lr: after all rounds the parameters
    become p0 + gamma (p - p0), with p0 those before the first round. A gamma above 1 goes beyond p.

    Algorithm 1 is the general case, with `batch_size` 1 and k - 1 = `memory_batch`. Algorithm 6 has
    one round. Algorithm 7 has one round and a longer step on the new example.
    """
    require(batches > 0, "method.batches", "positive", batches)
    require(inner_lr > 0, "method.inner_lr", "positive", inner_lr)
    require(within > 0, "method.within", "positive", within)
    require(current_factor > 0, "method.current_factor", "positive", current_factor)

    def init(setup: MethodSetup) -> MERState:
        return MERState(*map(setup.params.new_tensor, (inner_lr, within, current_factor)))

    def step_size_warning(lr: float) -> str:
        return (
            "MER's gamma, `replicas.lr` / `method.inner_lr`, is above 1, so that parameters go "
            "beyond where the steps on single examples lead: make `method.inner_lr` as large as "
            "`replicas.lr`"
            if lr > inner_lr
            else ""
        )

    return Method(
        keep_gradient,
        find_gradient=reptile_gradient,
        gradient_count=lambda b, m: batches * (b + m),
        memory_batches=batches,
        init=init,
        step_size_warning=step_size_warning,
        claims=("acts_without_memory",),
    )
