"""What an alignment method is: pure functions on flat gradients."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Layer, Network, Output

ExampleFunction = Callable[
    [Tensor, Examples], Tensor
]  # a number [] of the logits [1, outputs] of an example


class LossInputs(NamedTuple):
    """What an objective is taken of: a network at params [P] and statistics [S], a batch, and as
    many independent batches of the whole memory as the method asks for; layers: the parts of
    params, in order."""

    network: Network
    params: Tensor
    statistics: Tensor
    batch: Examples
    memory_batches: tuple[Examples, ...]
    layers: tuple[Layer, ...] = ()


Objective = Callable[[LossInputs, Any], tuple[Tensor, Output]]
ObjectiveGradient = tuple[
    Tensor, tuple[Tensor, Output]
]  # g [P], and the value [] and output it belongs to
TakeGradient = Callable[[LossInputs], ObjectiveGradient]


class Gradients(NamedTuple):
    """What there is to align, all taken at the same parameters.

    g: [P] of the objective;  refs: [M, P] on memory;  seen: [M] False, and the reference 0, where
    a task has nothing in memory;  loss: [] and ref_losses: [M] the values they belong to;
    uniform: [(M + 1) ** 2] random numbers where the method asks for them;  layers: the parts of a
    flat vector, in order.
    """

    g: Tensor
    references: Tensor
    available: Tensor
    loss: Tensor
    reference_losses: Tensor
    uniform: Tensor
    layers: tuple[Layer, ...]


class MethodSetup(NamedTuple):
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
    mean_gradient: Callable[[ExampleFunction, Tensor], Tensor]
    layer_inputs: Callable[[Tensor], tuple[Tensor, ...]]
    layers: tuple[Layer, ...]
    task_logits: Tensor
    filled_slots: Tensor
    memory_gradient: Callable[[Tensor, Tensor], Tensor]
    memory_layer_inputs: Callable[[Tensor], tuple[Tensor, ...]]


def batch_cross_entropy(trial: LossInputs, state: Any) -> tuple[Tensor, Output]:
    """The objective of fine-tuning: the mean cross-entropy of the batch."""
    output = trial.network(trial.params, trial.statistics, trial.batch)
    return cross_entropy(output.logits, trial.batch), output


def gradient_at_params(
    derivative: TakeGradient, trial: LossInputs, state: Any
) -> tuple[ObjectiveGradient, Any]:
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
    report:     (state) -> what record.json says of the state at the end, by name.
    """

    align: Callable[[Gradients, Any], tuple[Tensor, Any]]
    references: Literal["nothing", "pooled", "one_task", "per_task"] = "nothing"
    objective: Objective = batch_cross_entropy
    find_gradient: Callable[[TakeGradient, LossInputs, Any], tuple[ObjectiveGradient, Any]] = (
        gradient_at_params
    )
    memory_batches: int = 0
    stores_logits: bool = False
    init: Callable[[MethodSetup], Any] = lambda setting: ()
    after_step: Callable[[Any, Tensor, Tensor, Tensor], Any] = keep_state
    end_task: Callable[[Any, Tensor, Probe], Any] = keep_state
    next_task_params: Callable[[Any, Tensor], Tensor] = keep_params
    test_params: Callable[[Any, Tensor, int, tuple[Layer, ...]], Tensor] = keep_params
    shuffles_tasks: bool = False
    needs_random: bool = False
    report: Callable[[Any], dict[str, Tensor]] = lambda state: {}

    def reference_count(self, past: int) -> int:
        """M, how many references there are while `past` tasks are over; each costs a step one
        backward pass."""
        if self.references == "nothing":
            return 0
        return past if self.references == "per_task" else min(past, 1)


def task_ids(method: Method) -> str:
    """What training must be told of tasks: that "of each" example, where one ends ("at ends"), or
    nothing ("no"). A pooled reference leaves out the current task where it is told, and is on the
    whole memory where not."""
    if method.references in ("one_task", "per_task"):
        return "of each"
    endless = method.end_task is keep_state and method.next_task_params is keep_params
    return "no" if endless else "at ends"


def keep_gradient(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
    """The alignment of a method that leaves the gradient as it is."""
    return gradients.g, state
