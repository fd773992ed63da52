"""What an alignment method is: pure functions on flat gradients."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.benchmark import Examples
from gradalign_cli.models.model import Network

Objective = Callable[[Network, Tensor, Tensor, Examples, Examples, Any], tuple[Tensor, Tensor]]


class Probe(NamedTuple):
    """What a method may ask of the network when a task has ended.

    rows: [n] examples of the task in a random order;  sample_gradients: the gradient `[n, P]` of
    each example's own loss;  mean_gradient: the gradient `[P]` of their mean loss. Both leave the
    network's statistics alone.
    """

    rows: Tensor
    sample_gradients: Callable[[Tensor], Tensor]
    mean_gradient: Callable[[Tensor], Tensor]


def cross_entropy(logits: Tensor, examples: Examples) -> Tensor:
    """Mean cross-entropy [] of logits [n, outputs] over the examples of weight 1."""
    each = functional.cross_entropy(logits, examples.label, reduction="none")
    return each @ (examples.weight / examples.weight.sum().clamp_min(1))


def batch_loss(
    network: Network,
    params: Tensor,
    statistics: Tensor,
    batch: Examples,
    memory: Examples,
    state: Any,
) -> tuple[Tensor, Tensor]:
    """The objective of fine-tuning: the mean cross-entropy of the batch."""
    output = network(params, statistics, batch)
    return cross_entropy(output.logits, batch), output.statistics


class Method(NamedTuple):
    """An answer to "the new gradient hurts the old tasks".

    align:      (g [P], refs [M, P], seen [M], state) -> (direction [P], state); the optimizer steps
                against the direction. `seen` is False, and the reference 0, where a task has
                nothing in memory.
    references: what `refs` are: nothing (M = 0), the gradient of a memory batch of all earlier
                tasks (pooled, M = 1), or of each earlier task (per_task). While there is no
                earlier task, `align` is not asked and the direction is g.
    objective:  (network, params, statistics [S], batch, memory, state) -> (value [], statistics):
                what the gradient is taken of.
    replays:    whether the objective reads a batch of the whole memory.
    init:       (params) -> state, a tuple of tensors of fixed shapes; numbers that may differ
                between replicas live in it.
    end_task:   (state, params, probe) -> state.
    mixed:      whether the examples of all tasks are shuffled into one stream.
    """

    align: Callable[[Tensor, Tensor, Tensor, Any], tuple[Tensor, Any]]
    references: Literal["nothing", "pooled", "per_task"] = "nothing"
    objective: Objective = batch_loss
    replays: bool = False
    init: Callable[[Tensor], Any] = lambda params: ()
    end_task: Callable[[Any, Tensor, Probe], Any] = lambda state, params, probe: state
    mixed: bool = False


def keep_gradient(g: Tensor, refs: Tensor, seen: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The alignment of a method that leaves the gradient as it is."""
    return g, state


def guarded_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0."""
    safe = torch.where(denominator > 0, denominator, 1.0)
    return torch.where(denominator > 0, numerator / safe, 0.0)
