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
    """lookahead_lr: [] the size of the look-ahead step."""

    lookahead_lr: Tensor


def example_losses(inputs: LossInputs, params: Tensor, examples: Examples) -> Tensor:
    """The cross-entropy [n] of each example at params [P]; 0 where the example is not valid."""
    output = inputs.network(params, inputs.statistics, examples)
    return cross_entropies(output.logits, examples)


def mir(replayed_examples: int, lookahead_lr: float) -> Method:
    """ER with those examples of the memory batch whose loss a step on the batch alone would
    increase most (arXiv 1908.04742, sec. 3.1).

    The candidates are the memory batch, so `memory_batch` is their number.
    replayed_examples: how many of them are replayed.
    lookahead_lr: the size of the look-ahead step; the paper takes the learning rate.
    """
    require(replayed_examples > 0, "method.replayed_examples", "positive", replayed_examples)
    require(lookahead_lr > 0, "method.lookahead_lr", "positive", lookahead_lr)

    def init(setup: MethodSetup) -> MIRState:
        return MIRState(setup.params.new_tensor(lookahead_lr))

    def find_gradient(
        take_gradient: TakeGradient, inputs: LossInputs, state: MIRState
    ) -> tuple[ObjectiveGradient, MIRState]:
        (candidates,) = inputs.memory_batches
        assert isinstance(candidates.valid, Tensor)
        params = inputs.params.detach()
        g, _ = take_gradient(inputs)
        with torch.no_grad():
            losses = example_losses(inputs, params, candidates)
            growth = example_losses(inputs, params - state.lookahead_lr * g, candidates) - losses
        growth = torch.where(candidates.valid > 0, growth, -torch.inf)
        largest = growth.topk(min(replayed_examples, len(growth))).indices
        replayed = tree_map(lambda field: take_rows(field, largest), candidates)
        batch = concatenate_examples(inputs.batch, replayed)
        return take_gradient(inputs._replace(batch=batch)), state

    return Method(
        keep_gradient,
        find_gradient=find_gradient,
        gradient_count=lambda b, m: 2,
        memory_batches=1,
        init=init,
    )
