"""The step: references, gradient, alignment, update and insertion. A pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import Arrivals
from gradalign_cli.methods.method import Gradients, LossInputs, Objective, ObjectiveGradient
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import take_rows
from gradalign_cli.numerics.vectors import GradientAndValueFunction
from gradalign_cli.step.draws import Draw, augmenter, noise_keys, ones_like_batch
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.step.measurement import Measure, make_measure
from gradalign_cli.step.references import References, make_references
from gradalign_cli.step.replay import make_replay
from gradalign_cli.step.trace import LossTrace, Trace, measured_trace

Step = Callable[[Learner, Draw, TaskViews], tuple[Learner, Trace | LossTrace]]


def make_step(
    parts: Parts,
    past_tasks: int,
    differentiate: Callable[[Any], GradientAndValueFunction],
    measures_angles: bool,
) -> Step:
    """The step while `past_tasks` tasks are over.

    differentiate: how gradients are taken.  measures_angles: whether the trace holds the angles
    too, which costs a few passes over the parameters.
    """
    take_references = make_references(parts, past_tasks, differentiate)
    read_memory_batches = make_replay(parts, past_tasks)
    find_gradient = make_gradient(parts, differentiate)
    measure = make_measure(parts, past_tasks)
    network = make_network(parts.model, training=True)

    def step(learner: Learner, draw: Draw, view: TaskViews) -> tuple[Learner, Trace | LossTrace]:
        before = learner.params
        references = take_references(learner, draw, view)
        batch = stream_batch(parts, past_tasks, draw, view)
        memory_batches = read_memory_batches(learner.memory, draw, view)
        inputs = LossInputs(
            network, before, references.statistics, batch, memory_batches, parts.model.layers
        )
        (g, (loss, output)), state = find_gradient(inputs, learner.method_state)
        move, state = aligned_move(parts, references, g, loss, draw, learner, state)
        params = torch.addcmul(before, move.update, draw.lr, value=-1)
        state = parts.method.after_step(state, g, before, params)
        updated = Learner(params, output.statistics, move.optimizer_state, state, learner.memory)
        updated = insert_batch(parts, measure, updated, batch, output.logits, draw, view)
        if not measures_angles:
            return updated, LossTrace(loss)
        return updated, measured_trace(
            loss, move.unaligned, references, move.direction, params - before
        )

    return step


def stream_batch(parts: Parts, past_tasks: int, draw: Draw, view: TaskViews) -> Examples:
    """The examples of the stream that the step trains on while `past_tasks` tasks are over."""
    one_task = parts.benchmark.boundaries == "sharp" and not parts.method.shuffles_tasks_together
    tasks = past_tasks if one_task else draw.tasks
    # an objective may concatenate them with a memory batch, whose examples may be invalid
    valid = ones_like_batch(draw) if parts.method.memory_batches else ()
    keys = noise_keys(draw, parts.model, 0, len(draw.rows))
    augment = augmenter(draw, parts.augmentation, 0, len(draw.rows))
    return load_examples(parts.benchmark, view, draw.rows, tasks, valid, keys, augment)


def make_gradient(
    parts: Parts, differentiate: Callable[[Any], GradientAndValueFunction]
) -> Callable[[LossInputs, Any], tuple[ObjectiveGradient, Any]]:
    """How a step finds the gradient of its method's objective.

    Returns a function of (inputs, method state) that gives ((g, (loss, output)), method state).
    """
    method = parts.method

    def find_gradient(inputs: LossInputs, state: Any) -> tuple[ObjectiveGradient, Any]:
        def take_gradient(
            inputs: LossInputs, objective: Objective = method.objective
        ) -> ObjectiveGradient:
            def loss(params: Tensor) -> tuple[Tensor, Output]:
                return objective(inputs._replace(params=params), state)

            return differentiate(loss)(inputs.params)

        return method.find_gradient(take_gradient, inputs, state)

    return find_gradient


class Move(NamedTuple):
    """unaligned, direction: [P] what the method aligns and what it makes of it;  update: [P] the
    parameters change by -lr times it."""

    unaligned: Tensor
    direction: Tensor
    update: Tensor
    optimizer_state: Any


def aligned_move(
    parts: Parts,
    references: References,
    g: Tensor,
    loss: Tensor,
    draw: Draw,
    learner: Learner,
    state: Any,
) -> tuple[Move, Any]:
    """The way from the gradient g [P] to an update, and the method's state: the method aligns what
    the optimizer gets, or, with `Parts.aligned_vector` "update", what it gives."""
    optimizer, optimizer_state = parts.optimizer, learner.optimizer_state
    if parts.aligned_vector == "update":
        proposed, optimizer_state = optimizer.update(g, optimizer_state, learner.params)
        direction, state = aligned_direction(parts, references, proposed, loss, draw, state)
        return Move(proposed, direction, direction, optimizer_state), state
    direction, state = aligned_direction(parts, references, g, loss, draw, state)
    update, optimizer_state = optimizer.update(direction, optimizer_state, learner.params)
    return Move(g, direction, update, optimizer_state), state


def aligned_direction(
    parts: Parts, references: References, g: Tensor, loss: Tensor, draw: Draw, state: Any
) -> tuple[Tensor, Any]:
    """The direction [P] that the method makes of g [P], a gradient or an update, and the method's
    state. While there is no earlier task, a method with references is not asked."""
    gradients, losses, available, _ = references
    if not len(gradients) and parts.method.references != "nothing":
        return g, state
    uniform = draw.align_uniform[: (len(gradients) + 1) ** 2]
    layers = parts.model.layers
    return parts.method.align(
        Gradients(g, gradients, available, loss, losses, uniform, layers), state
    )


def insert_batch(
    parts: Parts,
    measure: Measure,
    updated: Learner,
    batch: Examples,
    logits: Tensor,
    draw: Draw,
    view: TaskViews,
) -> Learner:
    """The updated learner with the batch offered to its buffer; logits: [>= batch, outputs] that
    the batch had in the step. As this comes last, no reference of the step contains the batch."""
    positions = take_rows(view.class_in_task, take_rows(parts.benchmark.labels, draw.rows))
    logits = logits[: len(positions)]  # an objective may have appended a memory batch
    stored_logits = logits if parts.method.stores_logits else logits[:, :0]
    measurements = measure(updated, batch, draw, view)
    arrivals = Arrivals(
        draw.rows, draw.tasks, positions, draw.insert_uniform, stored_logits, measurements
    )
    return updated._replace(memory=parts.buffer.insert(updated.memory, arrivals))
