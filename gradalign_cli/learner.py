"""The step: one gradient on new data, gradients on memory, an alignment, an update. All pure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradalign_cli.benchmarks.benchmark import Benchmark, View, images, labels, mask
from gradalign_cli.buffers.buffer import Arrivals, Buffer, Memory, Reading, read
from gradalign_cli.draws import Draw
from gradalign_cli.methods.method import Method
from gradalign_cli.models.model import Model
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.vectors import Gradient


class Learner(NamedTuple):
    """All that changes in training: params [P], statistics [S], and three states."""

    params: Tensor
    statistics: Tensor
    optimizer: Any
    method: Any
    memory: Memory


class Trace(NamedTuple):
    """What one step shows of the alignment, each []; NaN where nothing was measured.

    loss: the objective;  ref_loss: mean loss on the memory;  cosine: the smallest between g and a
    reference;  violated: 1 if a dot product of g and a reference is negative;  norm_ratio:
    |direction| / |g|;  broken: 1 if the applied change has a positive dot product with a reference.
    """

    loss: Tensor
    ref_loss: Tensor
    cosine: Tensor
    violated: Tensor
    norm_ratio: Tensor
    broken: Tensor


class Parts(NamedTuple):
    """What a run is made of."""

    benchmark: Benchmark
    model: Model
    method: Method
    buffer: Buffer
    optimizer: Optimizer
    memory_batch: int | None


Step = Callable[[Learner, Draw, View], tuple[Learner, Trace]]


def make_loss(parts: Parts) -> Callable[[Tensor, Tensor, View, Reading], tuple[Tensor, Tensor]]:
    """(params, statistics, view, examples) -> (mean cross-entropy of the weighted, statistics)."""

    def loss(
        params: Tensor, statistics: Tensor, view: View, examples: Reading
    ) -> tuple[Tensor, Tensor]:
        x = images(parts.benchmark, view, examples.row, examples.task)
        output = parts.model.apply(params, statistics, x, True)
        logits = mask(output.logits, view, examples.task)
        each = cross_entropy(logits, labels(parts.benchmark, view, examples.row), reduction="none")
        weight = examples.weight
        return (each * weight).sum() / weight.sum().clamp_min(1), output.statistics

    return loss


def reading_sizes(parts: Parts, past: int) -> tuple[int, int]:
    """How many examples a reference gradient and a replay read while `past` tasks are over."""
    slots = parts.buffer.slots
    per_reference = {
        "nothing": 0,
        "pooled": len(slots[:past].unique()),
        "per_task": slots.shape[1],
    }[parts.method.references]
    replay = len(slots[: past + 1].unique()) if parts.method.replays else 0
    limit = parts.memory_batch or max(per_reference, replay)
    return min(per_reference, limit) if past else 0, min(replay, limit)


def make_step(parts: Parts, past: int, gradient: Callable[[Any], Gradient], measure: bool) -> Step:
    """The step while `past` tasks are over, with gradients taken by `gradient`.

    measure: whether the angles are measured too, which costs a few passes over the parameters.
    """
    benchmark, model, method, buffer, optimizer, _ = parts
    loss = make_loss(parts)
    reference_size, replay_size = reading_sizes(parts, past)
    refers = reference_size > 0
    per_task = method.references == "per_task"
    held = buffer.slots[:past] if per_task else buffer.slots[:past].unique()[None]
    owner = torch.arange(past)[:, None]
    anywhere = buffer.slots[: past + 1].unique()[None]

    def references(
        learner: Learner, draw: Draw, view: View
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients [M, P] and losses [M] of earlier tasks, which of them are held, statistics."""
        memory = learner.memory
        task = memory.task[held]
        allowed = (memory.row[held] >= 0) & (task == owner if per_task else task < past)
        examples = read(memory, held, allowed, reference_size, draw.reference)
        take = gradient(loss)
        if model.convolutional:  # one after the other, as the running statistics move
            found, losses, statistics = [], [], learner.statistics
            for part in zip(*examples, strict=True):
                g, (value, statistics) = take(learner.params, statistics, view, Reading(*part))
                found.append(g)
                losses.append(value)
            return torch.stack(found), torch.stack(losses), allowed.any(1), statistics
        if len(held) == 1:
            part = Reading(*(field[0] for field in examples))
            g, (value, statistics) = take(learner.params, learner.statistics, view, part)
            return g[None], value[None], allowed.any(1), statistics
        batched = torch.func.vmap(
            torch.func.grad_and_value(loss, has_aux=True), (None, None, None, 0)
        )
        found, (losses, _) = batched(learner.params, learner.statistics, view, examples)
        return found, losses, allowed.any(1), learner.statistics

    def step(learner: Learner, draw: Draw, view: View) -> tuple[Learner, Trace]:
        params, statistics, state = learner.params, learner.statistics, learner.method
        refs, ref_losses, seen = params.new_zeros(0, len(params)), params[:0], params[:0] > 0
        if refers:
            refs, ref_losses, seen, statistics = references(learner, draw, view)
        replay = Reading(*(draw.rows[:0],) * 2, params[:0])
        if replay_size:
            memory = learner.memory
            allowed = memory.row[anywhere] >= 0
            found = read(memory, anywhere, allowed, replay_size, draw.replay)
            replay = Reading(*(field[0] for field in found))
        batch = Reading(draw.rows, draw.task, torch.ones_like(draw.insert))

        def objective(params: Tensor) -> tuple[Tensor, Tensor]:
            def on(params: Tensor, examples: Reading) -> tuple[Tensor, Tensor]:
                return loss(params, statistics, view, examples)

            return method.objective(on, params, batch, replay, state)

        g, (value, statistics) = gradient(objective)(params)
        direction = g
        if refers or method.references == "nothing":
            direction, state = method.align(g, refs, seen, state)
        change, optimizer_state = optimizer.update(direction, learner.optimizer, params, draw.lr)
        position = view.position[benchmark.y[draw.rows]]
        arrivals = Arrivals(draw.rows, draw.task, position, draw.insert)
        memory = buffer.insert(learner.memory, arrivals)
        after = Learner(params + change, statistics, optimizer_state, state, memory)
        return after, trace(value, g, refs, ref_losses, seen, direction, change)

    def trace(
        value: Tensor,
        g: Tensor,
        refs: Tensor,
        ref_losses: Tensor,
        seen: Tensor,
        direction: Tensor,
        change: Tensor,
    ) -> Trace:
        nothing = torch.full_like(value, torch.nan)
        if not measure:
            return Trace(value, *(nothing,) * 5)
        ratio = direction.norm() / g.norm()
        if not refers:
            return Trace(value, nothing, nothing, nothing, ratio, nothing)
        dots = refs @ g
        cosines = torch.where(seen, dots / (refs.norm(dim=1) * g.norm()), torch.inf)
        any_seen = seen.any()
        held_loss = torch.where(seen, ref_losses, 0.0).sum() / seen.sum()
        violated = ((dots < 0) & seen).any().to(value.dtype)
        broken = ((refs @ change > 0) & seen).any().to(value.dtype)
        found = (held_loss, cosines.min(), violated, ratio, broken)
        return Trace(value, *(torch.where(any_seen, part, nothing) for part in found))

    return step
