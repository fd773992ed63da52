"""The step: one gradient on new data, gradients on memory, an alignment, an update. All pure."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Absent, Benchmark, Examples, Read, View, show
from gradalign_cli.buffers.buffer import Arrivals, Buffer, Memory, Reading, Seen, read
from gradalign_cli.buffers.measures import cosines, losses
from gradalign_cli.draws import Draw, Widths
from gradalign_cli.methods.method import Found, Gradients, Method, Trial, cross_entropy
from gradalign_cli.models.model import Model, Network, Output
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.schedules.schedule import Schedule
from gradalign_cli.trees import index, stack, take, tree_map
from gradalign_cli.vectors import Gradient

ROUNDING = 1e-4  # cosine that a float32 projection may leave
SHOWN = 2**28  # bytes of images that a replica may keep for its references


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
    |direction| / |g|;  broken: 1 if the applied change has a positive dot product with a reference,
    beyond rounding.
    """

    loss: Tensor
    ref_loss: Tensor
    cosine: Tensor
    violated: Tensor
    norm_ratio: Tensor
    broken: Tensor


class Parts(NamedTuple):
    """What a run is made of; schedule: None where steps are of one size and no pass is left out."""

    benchmark: Benchmark
    model: Model
    method: Method
    buffer: Buffer
    optimizer: Optimizer
    memory_batch: int | None
    schedule: Schedule | None = None


Step = Callable[[Learner, Draw, View], tuple[Learner, Trace]]


def make_network(model: Model, training: bool) -> Network:
    """The model as a function of examples."""

    def network(params: Tensor, statistics: Tensor, examples: Examples) -> Output:
        return model.apply(params, statistics, examples.x, training, examples.noise)

    return network


def met(parts: Parts, past: int) -> int:
    """Of how many tasks the memory may hold examples while `past` tasks are over."""
    sharp = parts.benchmark.boundaries == "sharp"
    return past + 1 if sharp else parts.benchmark.tasks


def reading_sizes(parts: Parts, past: int) -> tuple[int, int]:
    """How many examples a reference gradient and a replay read while `past` tasks are over."""
    slots = parts.buffer.slots
    per_reference = {
        "nothing": 0,
        "pooled": len(slots[:past].unique()),
        "one_task": slots.shape[1],
        "per_task": slots.shape[1],
    }[parts.method.references]
    replay = len(slots[: met(parts, past)].unique()) if parts.method.replays else 0
    limit = parts.memory_batch or max(per_reference, replay)
    return min(per_reference, limit) if past else 0, min(replay, limit)


def look_size(parts: Parts, past: int) -> int:
    """How many stored examples the buffer looks at in a step while `past` tasks are over."""
    return min(parts.buffer.looks, len(parts.buffer.slots[: met(parts, past)].unique()))


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


def held_slots(parts: Parts, past: int) -> Tensor:
    """The slots [M, K] that each reference reads from while `past` tasks are over."""
    slots = parts.buffer.slots[:past]
    return slots if parts.method.references == "per_task" else slots.unique()[None]


def make_reading(parts: Parts, past: int) -> Callable[..., Read]:
    """What references read while `past` tasks are over.

    (memory, view, reference, align, noise) -> the examples [M, n] and which [M] there are any of;
    reference, align, noise: as in a draw.
    """
    benchmark, method, held = parts.benchmark, parts.method, held_slots(parts, past)
    size, allowed_in = reading_sizes(parts, past)[0], make_allowed(parts, past)
    one_task = method.references == "one_task"
    place = inverse(held, int(parts.buffer.slots.max()) + 1)

    def reading(
        memory: Memory, view: View, reference: Tensor, align: Tensor, noise: Tensor | Absent
    ) -> Read:
        if not view.shown:
            allowed = allowed_in(memory, align)
            _, row, task, weight = read(memory, held, allowed, size, reference)
            task = shown_as(parts, past, task)
            return show(benchmark, view, row, task, weight, noise), allowed.any(1)
        examples, allowed = view.shown
        if one_task:
            allowed = allowed_in(memory, align)
        elif size == held.shape[1]:
            return examples, allowed.any(1)
        slot, _, _, weight = read(memory, held, allowed, size, reference)
        chosen = take(place, slot)
        found = tree_map(lambda field: take(field.flatten(0, 1), chosen), examples)
        return found._replace(weight=weight), allowed.any(1)

    return reading


def make_allowed(parts: Parts, past: int) -> Callable[[Memory, Tensor], Tensor]:
    """Which of the held slots [M, K] references may read while `past` tasks are over: (memory,
    align) -> [M, K]; align: as in a draw, empty for all that any draw allows."""
    held, references = held_slots(parts, past), parts.method.references
    owner = torch.arange(past, device=held.device)[:, None]

    def allowed(memory: Memory, align: Tensor) -> Tensor:
        task = take(memory.task, held)
        mine = task == owner if references == "per_task" else task < past
        if references == "one_task" and len(align):
            mine = task == (align[0] * past).long()
        return (take(memory.row, held) >= 0) & mine

    return allowed


def shown_as(parts: Parts, past: int, task: Tensor) -> Tensor:
    """The tasks [M, n], or [M, 1] where one map of pixels serves all that a reference reads."""
    alone = parts.method.references == "per_task"
    return torch.arange(past, device=task.device)[:, None] if alone else task


def inverse(places: Tensor, count: int) -> Tensor:
    """[count] the position of each number in the flattened places, which are all different."""
    found = torch.zeros(count, dtype=torch.long, device=places.device)
    return found.scatter(0, places.flatten(), torch.arange(places.numel(), device=places.device))


def shown_bytes(parts: Parts, past: int) -> int:
    """Bytes of all the images that references may read while `past` tasks are over."""
    return 4 * held_slots(parts, past).numel() * math.prod(parts.benchmark.shape)


def shows_once(parts: Parts, past: int) -> bool:
    """Whether what references may read is shown once for all steps while `past` tasks are over:
    what ended tasks have in a memory in which it stays, unless it is too much to keep."""
    stays = parts.buffer.settled and parts.benchmark.boundaries == "sharp"
    read_at_all = reading_sizes(parts, past)[0] > 0 and not parts.model.noisy
    return stays and read_at_all and shown_bytes(parts, past) <= SHOWN


def with_shown(parts: Parts, past: int, learners: Learner, views: View) -> View:
    """The views [R, ...] with all that references may read while `past` tasks are over, where it is
    shown once."""
    if not shows_once(parts, past):
        return views._replace(shown=())
    held, allowed_in = held_slots(parts, past), make_allowed(parts, past)
    nothing = learners.params[0, :0]

    def shown(memory: Memory, view: View) -> Read:
        allowed = allowed_in(memory, nothing)
        _, row, task, weight = read(memory, held, allowed, held.shape[1], nothing)
        return show(parts.benchmark, view, row, shown_as(parts, past, task), weight), allowed

    both = [(index(learners.memory, r), index(views, r)) for r in range(len(learners.params))]
    return views._replace(shown=stack([shown(*own) for own in both]))


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
