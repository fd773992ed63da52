"""The step: references, gradient, alignment, update and insertion. A pure function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import Arrivals
from gradalign_cli.methods.method import Gradients, LossInputs, ObjectiveGradient
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import take_rows
from gradalign_cli.numerics.vectors import GradientFunction
from gradalign_cli.step.draws import Draw, noise_keys
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.step.measurement import make_measurement
from gradalign_cli.step.references import References, make_references
from gradalign_cli.step.replay import make_replay
from gradalign_cli.step.trace import Trace, loss_alone, measured_trace

Step = Callable[[Learner, Draw, View], tuple[Learner, Trace]]


def make_step(
    parts: Parts, past: int, gradient: Callable[[Any], GradientFunction], measured: bool
) -> Step:
    """The step while `past` tasks are over.

    gradient: how gradients are taken.  measured: whether the trace holds the angles too, which
    costs a few passes over the parameters.
    """
    references_of = make_references(parts, past, gradient)
    replay = make_replay(parts, past)
    gradient_of = make_gradient(parts, gradient)
    insert = make_insertion(parts, past)
    network = make_network(parts.model, training=True)

    def step(learner: Learner, draw: Draw, view: View) -> tuple[Learner, Trace]:
        references = references_of(learner, draw, view)
        batch = new_batch(parts, draw, view)
        trial = LossInputs(
            network,
            learner.params,
            references.statistics,
            batch,
            replay(learner.memory, draw, view),
            parts.model.layers,
        )
        (g, (loss, output)), state = gradient_of(trial, learner.method_state)
        direction, state = aligned(parts, references, g, loss, draw, state)
        params, optimizer_state = parts.optimizer.update(
            direction, learner.optimizer_state, learner.params, draw.lr
        )
        state = parts.method.after_step(state, g, learner.params, params)
        after = Learner(params, output.statistics, optimizer_state, state, learner.memory)
        after = insert(after, batch, output.logits, draw, view)
        if not measured:
            return after, loss_alone(loss)
        change = params - learner.params
        return after, measured_trace(loss, g, references, direction, change)

    return step


def new_batch(parts: Parts, draw: Draw, view: View) -> Examples:
    """The examples of the stream that the step trains on."""
    # an objective that replays puts batch and memory together, and the memory has weights
    weight = torch.ones_like(draw.insert_uniform[:, 0]) if parts.method.memory_batches else ()
    keys = noise_keys(draw, parts.model, 0, len(draw.rows))
    return load_examples(parts.benchmark, view, draw.rows, draw.tasks, weight, keys)


def make_gradient(
    parts: Parts, gradient: Callable[[Any], GradientFunction]
) -> Callable[[LossInputs, Any], tuple[ObjectiveGradient, Any]]:
    """How the gradient of the method's objective is found: a function of (trial, method state) that
    gives ((g, (loss, output)), method state)."""
    method = parts.method

    def gradient_of(trial: LossInputs, state: Any) -> tuple[ObjectiveGradient, Any]:
        def derivative(at: LossInputs) -> ObjectiveGradient:
            def value(params: Tensor) -> tuple[Tensor, Output]:
                return method.objective(at._replace(params=params), state)

            return gradient(value)(at.params)

        return method.find_gradient(derivative, trial, state)

    return gradient_of


def aligned(
    parts: Parts, references: References, g: Tensor, loss: Tensor, draw: Draw, state: Any
) -> tuple[Tensor, Any]:
    """The direction [P] that the method makes of g [P], and its state. While there is no earlier
    task, a method with references is not asked."""
    gradients, losses, available, _ = references
    if not len(gradients) and parts.method.references != "nothing":
        return g, state
    uniform = draw.align_uniform[: (len(gradients) + 1) ** 2]
    layers = parts.model.layers
    return parts.method.align(
        Gradients(g, gradients, available, loss, losses, uniform, layers), state
    )


def make_insertion(
    parts: Parts, past: int
) -> Callable[[Learner, Examples, Tensor, Draw, View], Learner]:
    """How the batch is offered to the buffer after the update, so that no reference of this step
    contains it."""
    measure = make_measurement(parts, past)

    def insert(after: Learner, batch: Examples, logits: Tensor, draw: Draw, view: View) -> Learner:
        position = take_rows(view.class_position, take_rows(parts.benchmark.labels, draw.rows))
        logits = logits[: len(position)]  # those of the batch; an objective may have replayed more
        stored = logits if parts.method.stores_logits else logits[:, :0]
        measurements = measure(after, batch, draw, view)
        arrivals = Arrivals(
            draw.rows, draw.tasks, position, draw.insert_uniform, stored, measurements
        )
        return after._replace(memory=parts.buffer.insert(after.memory, arrivals))

    return insert
