"""The contract of a method: pure functions on flat gradients, collected in a `Method`.

A method is a function that takes the hyper-parameters of its yaml and returns a `Method`. Only
`align` must be written; all other fields have defaults that change nothing. agem.py is a short
example. A method sees flat vectors [P] of all parameters and of all gradients, and no optimizer,
dataset or config.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Layer, Network, Output

State = Any  # of a method
Params = Tensor  # [P]
Gradient = Tensor  # [P]
Direction = Tensor  # [P], which the optimizer steps against
Rows = Tensor  # [n] of the dataset
Slots = Tensor  # [k] of the memory
NO_LAYER_INPUTS = "`method` needs the inputs of every layer, which this `model` hides"

# (logits [n, outputs], examples) -> a number [], such as the mean cross-entropy
ExampleFunction = Callable[[Tensor, Examples], Tensor]


class LossInputs(NamedTuple):
    """What an objective is computed from, in one step.

    network:        (params, statistics, examples) -> Output, in training mode.
    params:         [P] parameters; the gradient of the objective is taken with respect to them.
    statistics:     [S] running statistics of BatchNorm; an objective that calls the network twice
                    passes the statistics of the first output to the second call.
    batch:          the new examples.
    memory_batches: as many batches as `Method.memory_batches` says, drawn independently from the
                    whole memory. Where the memory holds fewer examples than a batch, the remaining
                    places have `Examples.valid` 0 and must not count. They repeat the others in
                    turn, or the batch where there are none, for networks with BatchNorm.
    layers:         the parts of params, in order.
    """

    network: Network
    params: Tensor
    statistics: Tensor
    batch: Examples
    memory_batches: tuple[Examples, ...]
    layers: tuple[Layer, ...] = ()


# what a method says of its directions, see `Method.claims`
Claim = Literal[
    "follows_gradient",
    "hurts_no_reference",
    "keeps_length",
    "does_not_lengthen",
    "projects_orthogonally",
    "acts_without_memory",
]
# (inputs, method state) -> (value [], output of the network on the batch)
Objective = Callable[[LossInputs, Any], tuple[Tensor, Output]]
# gradient [P] of an objective, and the (value [], output) that the objective returned with it
ObjectiveGradient = tuple[Tensor, tuple[Tensor, Output]]
# (inputs, an `Objective`) -> its gradient at inputs.params; by default the method's objective
TakeGradient = Callable[..., ObjectiveGradient]


class Gradients(NamedTuple):
    """The gradients that `Method.align` makes a direction of, all taken at the same parameters.

    g:                [P] gradient of the objective, as `Method.find_gradient` returned it.
    references:       [M, P] gradients of the cross-entropy on memory, see `Method.references`.
    available:        [M] False where the memory holds no example for a reference, which is then 0.
    loss:             [] value of the objective that g belongs to.
    reference_losses: [M] mean cross-entropies that the references belong to.
    random_numbers:   [(M + 1) ** 2] random numbers from [0, 1) where `Method.needs_random_numbers`.
    layers:           the parts of a flat vector [P], in order.
    """

    g: Tensor
    references: Tensor
    available: Tensor
    loss: Tensor
    reference_losses: Tensor
    random_numbers: Tensor
    layers: tuple[Layer, ...]


class MethodSetup(NamedTuple):
    """What a method's initial state is made of.

    params:           [P] the initial parameters.
    tasks:            T, the number of tasks of the run.
    outputs:          the number of logits of the network.
    layers:           the parts of params, in order.
    has_layer_inputs: whether the model gives the inputs of its layers, see `Probe.layer_inputs`.
    """

    params: Tensor
    tasks: int
    outputs: int
    layers: tuple[Layer, ...]
    has_layer_inputs: bool = True


class Probe(NamedTuple):
    """What a method may compute with the network and the memory when a task has ended, or begins.

    The network is in evaluation mode. At the end of a task it has the parameters that the task is
    tested with, and the memory is the one that the buffer leaves then. No function changes the
    statistics of BatchNorm.

    rows:                [n] the examples of the task, in a random order.
    task:                the number of the task.
    network:             (params [P], statistics [S], examples) -> Output.
    statistics:          [S] the running statistics of BatchNorm.
    examples:            (rows [n]) -> the examples as the task sees them.
    memory_examples:     (slots [k]) -> the examples in these slots, as their tasks see them.
    sample_gradients:    (function, rows [n]) -> [n, P] the gradient of an `ExampleFunction` on each
                         example alone. A third argument tasks [n] shows each example as that task
                         sees it; by default the probe's task.
    mean_gradient:       (function, rows [n]) -> [P] the gradient of an `ExampleFunction` on all
                         examples together.
    layer_inputs:        (rows [n]) -> for each layer with a matrix, the inputs [n, columns] that
                         the matrix multiplies. Raises UserError where the model does not have them.
    layers:              the parts of a flat vector [P], in order.
    task_logit_mask:     [outputs] 1 for the logits that are the target of some example of the task.
    filled_slot_indices: [k] the slots of the memory that hold an example.
    memory_gradient:     (params [P], slots [k]) -> [P] the gradient of the mean cross-entropy of
                         the examples in these slots.
    memory_layer_inputs: (slots [k]) -> as `layer_inputs`, for the examples in these slots.
    """

    rows: Tensor
    task: int
    network: Network
    statistics: Tensor
    examples: Callable[[Rows], Examples]
    memory_examples: Callable[[Slots], Examples]
    sample_gradients: Callable[..., Tensor]
    mean_gradient: Callable[[ExampleFunction, Rows], Gradient]
    layer_inputs: Callable[[Rows], tuple[Tensor, ...]]
    layers: tuple[Layer, ...]
    task_logit_mask: Tensor
    filled_slot_indices: Tensor
    memory_gradient: Callable[[Params, Slots], Gradient]
    memory_layer_inputs: Callable[[Slots], tuple[Tensor, ...]]


def batch_cross_entropy(inputs: LossInputs, state: Any) -> tuple[Tensor, Output]:
    """The objective of fine-tuning: the mean cross-entropy of the batch."""
    output = inputs.network(inputs.params, inputs.statistics, inputs.batch)
    return cross_entropy(output.logits, inputs.batch), output


def gradient_at_params(
    take_gradient: TakeGradient, inputs: LossInputs, state: Any
) -> tuple[ObjectiveGradient, Any]:
    """One gradient of the objective, at the current parameters."""
    return take_gradient(inputs), state


def one_gradient_per_step(batch_size: int, memory_batch_size: int) -> int:
    """How many gradients `gradient_at_params` takes."""
    return 1


def unchanged_params(state: Any, params: Tensor, *_: Any) -> Tensor:
    """The parameters, unchanged."""
    return params


def unchanged_state(state: Any, *_: Any) -> Any:
    """The state, unchanged."""
    return state


def unchanged_state_and_params(state: Any, params: Tensor, probe: Probe) -> tuple[Any, Tensor]:
    """The state and the parameters, unchanged."""
    return state, params


class Method(NamedTuple):
    """An answer to "the new gradient hurts the old tasks": pure functions and what they need.

    The functions are called in this order: `init` once; `begin_task` before a task; in every step
    `find_gradient` (which calls `objective`), `align`, then `after_step`; at the end of a task
    `end_task`, then `next_task_params`; `test_params` before every test. The functions of a step
    run under vmap and are captured as a graph: no Python branch may depend on a tensor's values,
    and every tensor keeps its shape.

    Replicas that train together share all functions but `init` and those that begin and end a task;
    they differ in the state. A hyper-parameter that is a float may differ between replicas, so the
    shared functions must read it from the state.

    align:                (gradients, state) -> (direction [P], state). The optimizer steps against
                          the direction. While a method with references has none (M = 0), it is not
                          called, and the direction is g.
    references:           the references in `Gradients`: none ("nothing", M = 0), the gradient on a
                          memory batch of all earlier tasks ("pooled", M = 1), of one earlier task
                          drawn at random in each step ("one_task", M = 1), or of each earlier task
                          ("per_task", M = the number of ended tasks).
    objective:            (inputs, state) -> (value [], output): the loss that gradients are taken
                          of. The first rows of output.logits are the logits of the batch, and
                          output.statistics are those that the network has after the step.
    find_gradient:        (take_gradient, inputs, state) -> ((g [P], (value [], output)), state):
                          how g is computed. `take_gradient(inputs)` is the gradient of the
                          objective at the parameters and examples of any `LossInputs`, so that a
                          method may take several gradients in a step; with a second argument that
                          of another `Objective`.
    gradient_count:       (batch_size, memory_batch_size) -> how many gradients `find_gradient`
                          takes.
    memory_batches:       how many memory batches `LossInputs` holds.
    stores_logits:        whether the memory stores, with an example, the logits that it had in the
                          step in which it arrived.
    init:                 (setup) -> state: a tensor, or a tuple of states such as a NamedTuple.
                          Only `begin_task` and `end_task` may change the shape of a tensor in it.
                          Where the shapes of replicas then differ, the smaller tensors are padded
                          with zeros at their ends, so such zeros must not change what the method
                          does.
    after_step:           (state, unaligned_g [P], params_before [P], params_after [P]) -> state,
                          after the optimizer's update. unaligned_g is what `find_gradient`
                          returned, before `align`.
    begin_task:           (state, params [P], probe) -> (state, params [P] that the first step of
                          the task starts from). The same holds for it as for `end_task`.
    end_task:             (state, params [P], probe) -> state. A method that has this function needs
                          a stream that tells where tasks end, see `needed_task_ids`.
    next_task_params:     (state, params [P]) -> the parameters [P] that the next task starts from.
    test_params:          (state, params [P], task, layers) -> the parameters [P] that task number
                          `task` is tested with.
    shuffles_tasks_together:
                          whether the examples of all tasks are shuffled into one stream, as for
                          joint training.
    needs_random_numbers: whether `align` needs the random numbers `Gradients.random_numbers`.
    align_accepts_updates:
                          whether `align` may also be given an optimizer's update in the place of g:
                          its direction grows with g, and of the references only their directions
                          matter, as an update is in other units than they are.
    step_size_warning:    (`replicas.lr`) -> a sentence on what is wrong with steps of this size;
                          empty where nothing is.
    report:               (state) -> entries of record.json, by name: tensors [R, ...], from the
                          state of all R replicas at the end. The run's own entries come first where
                          a name is taken.
    claims:               what `gradalign check` shall try on the directions of `align`: that they
                          are the gradient ("follows_gradient"), raise no reference loss to first
                          order ("hurts_no_reference"), are as long as the gradient
                          ("keeps_length") or no longer ("does_not_lengthen"), or are what an
                          orthogonal projection leaves ("projects_orthogonally"). A method that
                          differs from plain SGD even while the memory is empty says so
                          ("acts_without_memory").
    """

    align: Callable[[Gradients, State], tuple[Direction, State]]
    references: Literal["nothing", "pooled", "one_task", "per_task"] = "nothing"
    objective: Objective = batch_cross_entropy
    find_gradient: Callable[[TakeGradient, LossInputs, State], tuple[ObjectiveGradient, State]] = (
        gradient_at_params
    )
    gradient_count: Callable[[int, int], int] = one_gradient_per_step
    memory_batches: int = 0
    stores_logits: bool = False
    init: Callable[[MethodSetup], State] = lambda setup: ()
    after_step: Callable[[State, Gradient, Params, Params], State] = unchanged_state
    begin_task: Callable[[State, Params, Probe], tuple[State, Params]] = unchanged_state_and_params
    end_task: Callable[[State, Params, Probe], State] = unchanged_state
    next_task_params: Callable[[State, Params], Params] = unchanged_params
    test_params: Callable[[State, Params, int, tuple[Layer, ...]], Params] = unchanged_params
    shuffles_tasks_together: bool = False
    needs_random_numbers: bool = False
    align_accepts_updates: bool = False
    step_size_warning: Callable[[float], str] = lambda lr: ""
    report: Callable[[State], dict[str, Tensor]] = lambda state: {}
    claims: tuple[Claim, ...] = ()

    def reference_count(self, past_tasks: int) -> int:
        """M, the number of references while `past_tasks` tasks are over. Each of them costs one
        backward pass in every step."""
        if self.references == "nothing":
            return 0
        return past_tasks if self.references == "per_task" else min(past_tasks, 1)


def needed_task_ids(method: Method) -> Literal["no", "at ends", "of each"]:
    """What a method must be told of tasks: the task of each example ("of each"), where a task ends
    ("at ends"), or nothing ("no").

    A method with a pooled reference works either way. Its reference leaves out the current task on
    a stream with known tasks, and is the gradient on the whole memory on a stream without them.
    """
    if method.references in ("one_task", "per_task"):
        return "of each"
    acts_at_ends = (
        method.end_task is not unchanged_state or method.next_task_params is not unchanged_params
    )
    acts_at_beginnings = method.begin_task is not unchanged_state_and_params
    return "at ends" if acts_at_ends or acts_at_beginnings else "no"


def keep_gradient(gradients: Gradients, state: Any) -> tuple[Tensor, Any]:
    """The `align` of a method that follows its gradient as it is."""
    return gradients.g, state


def can_align_updates(method: Method) -> bool:
    """Whether a method can be given updates to align: those that say so, and those whose direction
    is the vector that they are given."""
    return method.align_accepts_updates or method.align is keep_gradient
