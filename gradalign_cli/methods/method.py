"""What an alignment method is: pure functions on flat gradients."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.benchmark import Absent, Examples, mask
from gradalign_cli.models.model import Layer, Network, Output
from gradalign_cli.trees import tree_map

IGNORED = -100  # a label that counts for nothing
OfOne = Callable[[Tensor, Examples], Tensor]  # a number [] of the logits [1, outputs] of an example


class Trial(NamedTuple):
    """What an objective is taken of: a network at params [P] and statistics [S], a batch, and as
    many independent batches of the whole memory as the method asks for; layers: the parts of
    params, in order."""

    network: Network
    params: Tensor
    statistics: Tensor
    batch: Examples
    memories: tuple[Examples, ...]
    layers: tuple[Layer, ...] = ()


Objective = Callable[[Trial, Any], tuple[Tensor, Output]]
Found = tuple[Tensor, tuple[Tensor, Output]]  # g [P], and the value [] and output it belongs to
Derivative = Callable[[Trial], Found]


class Gradients(NamedTuple):
    """What there is to align, all taken at the same parameters.

    g: [P] of the objective;  refs: [M, P] on memory;  seen: [M] False, and the reference 0, where
    a task has nothing in memory;  loss: [] and ref_losses: [M] the values they belong to;
    uniform: [(M + 1) ** 2] random numbers where the method asks for them;  layers: the parts of a
    flat vector, in order.
    """

    g: Tensor
    refs: Tensor
    seen: Tensor
    loss: Tensor
    ref_losses: Tensor
    uniform: Tensor
    layers: tuple[Layer, ...]


class Setting(NamedTuple):
    """What a method is set up for: params [P] at first, how many tasks, logits and layers."""

    params: Tensor
    tasks: int
    outputs: int
    layers: tuple[Layer, ...]


class Probe(NamedTuple):
    """What a method may ask of the network when a task has ended.

    rows: [n] examples of the task in a random order;  task: its number;  sample_gradients: (of,
    rows, tasks) -> [n, P] the gradient of a number of each example, as tasks [n] show it, or this
    one where there are none;  mean_gradient: (of, rows) -> [P] of a number of them all;
    inputs: (rows) -> what each layer with a matrix multiplies [n, columns];  layers: of the flat
    vector;  used: [outputs] 1 for the logits that are right for some example;  held: [n] slots of
    the memory that hold an example;  memory_gradient: (params, slots) -> [P] of the mean
    cross-entropy on some of them;  memory_inputs: (slots) -> what each layer with a matrix
    multiplies for them. All leave the network's statistics alone.
    """

    rows: Tensor
    task: int
    sample_gradients: Callable[..., Tensor]
    mean_gradient: Callable[[OfOne, Tensor], Tensor]
    inputs: Callable[[Tensor], tuple[Tensor, ...]]
    layers: tuple[Layer, ...]
    used: Tensor
    held: Tensor
    memory_gradient: Callable[[Tensor, Tensor], Tensor]
    memory_inputs: Callable[[Tensor], tuple[Tensor, ...]]


def cross_entropy(logits: Tensor, examples: Examples) -> Tensor:
    """Mean cross-entropy [] of logits [n, outputs] over the examples of weight 1."""
    logits, label, weight = mask(logits, examples.visible), examples.label, examples.weight
    if not isinstance(weight, Tensor):
        return functional.cross_entropy(logits, label)
    # what only fills a place may have a label its task cannot see, and 0 * inf is not 0
    label = torch.where(weight > 0, label, IGNORED)
    total = functional.cross_entropy(logits, label, ignore_index=IGNORED, reduction="sum")
    return total / weight.sum().clamp_min(1)


def cross_entropy_of_each(logits: Tensor, examples: Examples) -> Tensor:
    """Cross-entropy [n] of logits [n, outputs]; 0 where the weight is 0."""
    label, weight = examples.label, examples.weight
    if isinstance(weight, Tensor):
        label = torch.where(weight > 0, label, IGNORED)
    return functional.cross_entropy(mask(logits, examples.visible), label, reduction="none")


def average(each: Tensor, weight: Tensor | Absent) -> Tensor:
    """The mean [] of a number of each example [n] over the examples of weight 1."""
    if not isinstance(weight, Tensor):
        return each.mean()
    return each @ (weight / weight.sum().clamp_min(1))


def batch_loss(trial: Trial, state: Any) -> tuple[Tensor, Output]:
    """The objective of fine-tuning: the mean cross-entropy of the batch."""
    output = trial.network(trial.params, trial.statistics, trial.batch)
    return cross_entropy(output.logits, trial.batch), output


def joined(*parts: Examples) -> Examples:
    """All examples, one part after the other."""
    found: Examples = tree_map(lambda *fields: torch.cat(fields), *parts)
    return found


def derive_once(derivative: Derivative, trial: Trial, state: Any) -> tuple[Found, Any]:
    """The gradient where the network is."""
    return derivative(trial), state


def keep_params(state: Any, params: Tensor, *_: Any) -> Tensor:
    """The parameters as they are."""
    return params


def keep_state(state: Any, *_: Any) -> Any:
    """The state as it is."""
    return state


class Method(NamedTuple):
    """An answer to "the new gradient hurts the old tasks".

    align:      (gradients, state) -> (direction [P], state); the optimizer steps against the
                direction. While there is no earlier task, a method with references is not asked,
                and the direction is g.
    references: what `refs` are: nothing (M = 0), the gradient of a memory batch of all earlier
                tasks (pooled, M = 1), of one of them drawn at random (one_task, M = 1), or of each
                earlier task (per_task).
    objective:  (trial, state) -> (value [], the network's output on the batch, with the statistics
                it leaves): what gradients are taken of.
    derive:     (derivative, trial, state) -> ((g [P], (value [], output)), state): how g is found;
                `derivative(trial)` is the objective's gradient at any trial's parameters and
                examples.
    replays:    how many batches of the whole memory a trial holds, independently drawn.
    stores:     whether the memory keeps the logits an example had when it came.
    init:       (setting) -> state, a tuple of tensors; numbers that may differ between replicas
                live in it. Only `end_task` may change their shapes; where those of replicas trained
                together then differ, zeros are put behind, which must mean nothing.
    after:      (state, g, params before, params after) -> state, in every step.
    end_task:   (state, params, probe) -> state; a method that has one must be told where tasks end.
    restart:    (state, params) -> the parameters that the next task starts from.
    tested:     (state, params, task, layers) -> the parameters that a task, given as a number, is
                tested with.
    mixed:      whether the examples of all tasks are shuffled into one stream.
    random:     whether `align` needs random numbers.
    """

    align: Callable[[Gradients, Any], tuple[Tensor, Any]]
    references: Literal["nothing", "pooled", "one_task", "per_task"] = "nothing"
    objective: Objective = batch_loss
    derive: Callable[[Derivative, Trial, Any], tuple[Found, Any]] = derive_once
    replays: int = 0
    stores: bool = False
    init: Callable[[Setting], Any] = lambda setting: ()
    after: Callable[[Any, Tensor, Tensor, Tensor], Any] = keep_state
    end_task: Callable[[Any, Tensor, Probe], Any] = keep_state
    restart: Callable[[Any, Tensor], Tensor] = keep_params
    tested: Callable[[Any, Tensor, int, tuple[Layer, ...]], Tensor] = keep_params
    mixed: bool = False
    random: bool = False


def task_ids(method: Method) -> str:
    """What training must be told of tasks: that "of each" example, where one ends ("at ends"), or
    nothing ("no"). A pooled reference leaves out the current task where it is told, and is on the
    whole memory where not."""
    if method.references in ("one_task", "per_task"):
        return "of each"
    endless = method.end_task is keep_state and method.restart is keep_params
    return "no" if endless else "at ends"


def keep_gradient(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
    """The alignment of a method that leaves the gradient as it is."""
    return gradients.g, state


def guarded_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0."""
    safe = torch.where(denominator > 0, denominator, 1.0)
    return torch.where(denominator > 0, numerator / safe, 0.0)


def mean_over(rows: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over rows [n] of `function(rows) [n, P]`, taken for a few rows at a time.

    Nothing is kept of a few but their sum: small blocks among large freed ones would keep those
    from being used again (allocator.py).
    """
    first, *others = rows.split(64)
    total = function(first).sum(0)
    for part in others:
        total += function(part).sum(0)
    return total / len(rows)
