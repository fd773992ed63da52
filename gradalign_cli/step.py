"""The step: one gradient on new data, gradients on memory, an alignment, an update. All pure."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Absent, Examples, View, show
from gradalign_cli.buffers.buffer import Arrivals, Memory, Reading, Seen, read
from gradalign_cli.buffers.measures import cosines, losses
from gradalign_cli.draws import Draw, Widths
from gradalign_cli.learner import Learner, Parts, Step, Trace, make_network
from gradalign_cli.methods.method import Found, Gradients, Trial, cross_entropy
from gradalign_cli.models.model import Output
from gradalign_cli.reading import held_slots, look_size, make_reading, met, reading_sizes
from gradalign_cli.trees import index, stack, take
from gradalign_cli.vectors import Gradient

ROUNDING = 1e-4  # cosine that a float32 projection may leave


def uniforms(parts: Parts, past: int) -> Widths:
    """The random numbers that a step needs while `past` tasks are over."""
    reference, replay = reading_sizes(parts, past)
    slots = len(parts.buffer.slots.unique())
    read = reference * (past if parts.method.references == "per_task" else 1)
    read += replay * parts.method.replays
    return Widths(
        slots if reference else 0,
        (parts.method.replays, slots if replay else 0),
        (parts.benchmark.tasks + 1) ** 2
        if parts.method.random or parts.method.references == "one_task"
        else 0,
        slots if parts.buffer.looks else 0,
        parts.buffer.uniforms,
        read if parts.model.noisy else None,
    )


def make_step(parts: Parts, past: int, gradient: Callable[[Any], Gradient], measure: bool) -> Step:
    """The step while `past` tasks are over, with gradients taken by `gradient`.

    measure: whether the angles are measured too, which costs a few passes over the parameters.
    """
    benchmark, model, method, buffer, optimizer = parts[:5]
    network = make_network(model, training=True)
    reference_size, replay_size = reading_sizes(parts, past)
    refers = reference_size > 0
    held, reading = held_slots(parts, past), make_reading(parts, past)
    anywhere = buffer.slots[: met(parts, past)].unique()[None]
    looks = look_size(parts, past)
    references_read = reference_size * len(held)

    def loss(params: Tensor, statistics: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        output = network(params, statistics, examples)
        return cross_entropy(output.logits, examples), output.statistics

    def keys(draw: Draw, first: int, *size: int) -> Tensor | Absent:
        """The keys [*size] of a step's noise from number `first` on, where the network has noise;
        whatever is read has keys of its own."""
        if not model.noisy:
            return ()
        return draw.noise[first : first + math.prod(size)].view(size)

    def references(
        learner: Learner, draw: Draw, view: View
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients [M, P] and losses [M] of earlier tasks, which of them are held, statistics."""
        noise = keys(draw, len(draw.rows), len(held), reference_size)
        examples, seen = reading(learner.memory, view, draw.reference, draw.align, noise)
        if not model.convolutional and len(held) > 1:
            batched = torch.func.vmap(
                torch.func.grad_and_value(loss, has_aux=True), (None, None, 0)
            )
            found, (losses, _) = batched(learner.params, learner.statistics, examples)
            return found, losses, seen, learner.statistics
        # one after the other, as the running statistics move
        gradients, values, statistics = [], [], learner.statistics
        for m in range(len(held)):
            one = index(examples, m)
            g, (value, statistics) = gradient(loss)(learner.params, statistics, one)
            gradients.append(g)
            values.append(value)
        return stack(gradients), stack(values), seen, statistics

    def replayed(memory: Memory, draw: Draw, number: int, view: View) -> Examples:
        """A batch of the whole memory."""
        allowed, uniform = take(memory.row, anywhere) >= 0, draw.replay[number]
        found: Reading = index(read(memory, anywhere, allowed, replay_size, uniform), 0)
        noise = keys(draw, len(draw.rows) + references_read + number * replay_size, replay_size)
        examples = show(benchmark, view, found.row, found.task, found.weight, noise)
        return examples._replace(stored=take(memory.stored, found.slot))

    def told(after: Learner, batch: Examples, draw: Draw, view: View) -> Seen | Absent:
        """What the buffer wants to know of the network that the step leaves."""
        if buffer.wants == "nothing":
            return ()
        memory = after.memory
        allowed = take(memory.row, anywhere) >= 0
        slot, *reading = index(read(memory, anywhere, allowed, looks, draw.look), 0)
        stored = show(benchmark, view, *reading)
        arrived = batch._replace(weight=torch.ones_like(draw.insert[:, 0]))
        still = make_network(model, training=False)  # an example's answer is its own
        measure = losses if buffer.wants == "losses" else cosines
        own, theirs = measure(still, after.params, after.statistics, arrived, stored)
        return Seen(own, theirs, slot, reading[-1])

    def step(learner: Learner, draw: Draw, view: View) -> tuple[Learner, Trace]:
        params, statistics, state = learner.params, learner.statistics, learner.method
        if refers:
            refs, ref_losses, seen, statistics = references(learner, draw, view)
        else:
            refs, ref_losses, seen = params.new_zeros(0, len(params)), params[:0], params[:0] > 0
        # an objective that replays puts batch and memory together, where weights differ
        weight = torch.ones_like(draw.insert[:, 0]) if method.replays else ()
        noise = keys(draw, 0, len(draw.rows))
        batch = show(benchmark, view, draw.rows, draw.task, weight, noise)
        memories = tuple(replayed(learner.memory, draw, k, view) for k in range(method.replays))

        def derivative(trial: Trial) -> Found:
            def value(params: Tensor) -> tuple[Tensor, Output]:
                return method.objective(trial._replace(params=params), learner.method)

            return gradient(value)(trial.params)

        trial = Trial(network, params, statistics, batch, memories, model.layers)
        (g, (value, output)), state = method.derive(derivative, trial, state)
        direction = g
        if refers or method.references == "nothing":
            uniform = draw.align[: (len(refs) + 1) ** 2]
            given = Gradients(g, refs, seen, value, ref_losses, uniform, model.layers)
            direction, state = method.align(given, state)
        moved, optimizer_state = optimizer.update(direction, learner.optimizer, params, draw.lr)
        state = method.after(state, g, params, moved)
        position = take(view.position, take(benchmark.y, draw.rows))
        kept = output.logits[: len(position)]
        stored = kept if method.stores else kept[:, :0]
        after = Learner(moved, output.statistics, optimizer_state, state, learner.memory)
        known = told(after, batch, draw, view)
        arrivals = Arrivals(draw.rows, draw.task, position, draw.insert, stored, known)
        after = after._replace(memory=buffer.insert(learner.memory, arrivals))
        return after, trace(value, g, refs, ref_losses, seen, direction, (params, moved))

    def trace(
        value: Tensor,
        g: Tensor,
        refs: Tensor,
        ref_losses: Tensor,
        seen: Tensor,
        direction: Tensor,
        moved: tuple[Tensor, Tensor],
    ) -> Trace:
        unknown = torch.full_like(value, torch.nan)
        if not measure:
            return Trace(value, *(unknown,) * 5)
        ratio = direction.norm() / g.norm()
        if not refers:
            return Trace(value, unknown, unknown, unknown, ratio, unknown)
        dots = refs @ g
        cosines = torch.where(seen, dots / (refs.norm(dim=1) * g.norm()), torch.inf)
        any_seen = seen.any()
        held_loss = torch.where(seen, ref_losses, 0.0).sum() / seen.sum()
        violated = ((dots < 0) & seen).any().to(value.dtype)
        change = moved[1] - moved[0]
        harm = refs @ change > ROUNDING * refs.norm(dim=1) * change.norm()
        broken = (harm & seen).any().to(value.dtype)
        found = (held_loss, cosines.min(), violated, ratio, broken)
        return Trace(value, *(torch.where(any_seen, part, unknown) for part in found))

    return step
