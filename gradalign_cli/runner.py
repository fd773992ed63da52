"""The main loop: tasks, chunks of steps, tests. It knows no benchmark, method or buffer by name."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gradalign_cli.benchmarks.benchmark import Absent, Examples, Stream, View, mask, part, show
from gradalign_cli.buffers.buffer import Selection
from gradalign_cli.draws import chunks, generator, passes
from gradalign_cli.engines.engine import CPU, Engine
from gradalign_cli.errors import UserError
from gradalign_cli.learner import (
    Learner,
    Parts,
    Trace,
    make_network,
    make_step,
    uniforms,
    with_reading,
)
from gradalign_cli.methods.method import Method, OfOne, Probe, Setting, cross_entropy
from gradalign_cli.schedules.schedule import begun, judged
from gradalign_cli.trees import index, stack, take, tree_map

TEST_BATCH = 2000
CHUNK = 100  # steps between two looks at the traces


class Replica(NamedTuple):
    """One of the runs trained together: its seed, step size, method and tasks."""

    seed: int
    lr: float
    method: Method
    stream: Stream


class Plan(NamedTuple):
    """How long to train and what to look at on the way.

    passes: over each task;  batch: examples a step;  every: the angles are measured every so many
    steps;  lca_batches: the current task is tested after each of so many first batches;  continual:
    the tasks so far are tested every so many steps, on so many samples of each, 0: they are not.
    """

    passes: int
    batch: int
    every: int
    lca_batches: int
    continual: int = 0
    samples: int = 0


class Observer(Protocol):
    """Who is told what happens: the record and the display."""

    def steps(self, task: int, first: int, trace: Trace, measured: Tensor) -> None:
        """A chunk of steps [S, R] of a task is done; `first` is the number of its first step."""

    def tested(self, row: int, accuracy: Tensor) -> None:
        """Row `row` [R, T] of the accuracy matrix is known."""


class Outcome(NamedTuple):
    """accuracy: [R, T + 1, T];  own: the same with each task's own logits alone, where a run is
    class-incremental, or None;  learning: [R, T, lca_batches + 1] or None;  continual: [R, S, T]
    accuracy on samples, NaN on tasks to come, or None;  moments: [S, 2] task and step of its rows;
    seconds, those of a schedule's looks among the evaluation, steps, and backward passes of all
    replicas together;  learners: [R, ...] as they ended."""

    accuracy: np.ndarray
    own: np.ndarray | None
    learning: np.ndarray | None
    continual: np.ndarray | None
    moments: np.ndarray
    training_seconds: float
    evaluation_seconds: float
    steps: int
    backward_passes: int
    learners: Learner


def run(
    parts: Parts, replicas: Sequence[Replica], engine: Engine, plan: Plan, observer: Observer
) -> Outcome:
    """Train all replicas on the parts of their streams in sequence, a part for each task, and test
    them on every task after each.

    Where there is a schedule there is one replica.
    """
    seeds, device = [replica.seed for replica in replicas], engine.device
    views: View = put(stack([replica.stream.view for replica in replicas]), device)
    learners: Learner = stack([new_learner(parts, replica, device) for replica in replicas])
    started, testing, steps, backward = time.perf_counter(), 0.0, 0, 0

    def look(at: Callable[..., Any], *given: Any) -> Any:
        """What the learners show as they are; it counts as testing."""
        nonlocal testing
        begin = time.perf_counter()
        found = at(parts, replicas, engine, learners, views, *given)
        testing += time.perf_counter() - begin
        return found

    def glance(task: int, step: int) -> None:
        """Test the tasks so far on a few samples."""
        row = torch.full_like(rows[0][0], torch.nan)
        row[:, : task + 1] = look(accuracy, range(task + 1), plan.samples)[0]
        glances.append(row)
        moments.append((task, step))

    glances: list[Tensor] = []
    moments: list[tuple[int, int]] = []
    everything = range(parts.benchmark.tasks)
    rows, learning = [look(accuracy, everything)], []
    observer.tested(0, rows[0][0])
    bounded = parts.benchmark.boundaries != "none"
    for task in everything:
        past = task if bounded else parts.benchmark.tasks  # nothing in memory is left out
        measured, plain = (make_step(parts, past, engine.gradient, m) for m in (True, False))
        cycle = [measured] + [plain] * (plan.every - 1)
        orders = [passes(r.stream, r.seed, task, plan.passes, parts.method.mixed) for r in replicas]
        slow = parts.model.convolutional and device == CPU
        chunk = plan.every if slow else plan.every * -(-CHUNK // plan.every)
        chunk = plan.continual or chunk
        learned, done, widths = [rows[-1][0, :, task]], 0, uniforms(parts, past)
        lrs, a_pass = [r.lr for r in replicas], -(-len(orders[0][0][0]) // plan.batch)
        with default(device):
            views = with_reading(parts, past, learners, views)
        course = begun(parts.schedule, lrs[0], learners) if parts.schedule else None
        for draws in chunks(orders, seeds, lrs, task, plan.batch, widths, plan.lca_batches, chunk):
            if course:
                draws = draws._replace(lr=torch.full_like(draws.lr, course.verdict.lr))
            with default(device):
                learners, trace = engine.run(cycle, learners, put(draws, device), views)
            trace = put(trace, CPU)
            stop_if_diverged(trace.loss, task, done)
            observer.steps(task, done, trace, torch.arange(len(trace.loss)) % plan.every == 0)
            done += len(trace.loss)
            if plan.continual and done % plan.continual == 0:
                glance(task, done)
            if done <= plan.lca_batches:
                learned.append(look(accuracy, [task])[0, :, 0])
            if course and done % a_pass == 0:
                course = judged(course, look(held_out_loss, task), learners)
                if course.verdict.over:
                    break
        learners = course.learner if course else learners
        if plan.continual and moments[-1:] != [(task, done)]:
            glance(task, done)
        learned += [learned[-1]] * (plan.lca_batches + 1 - len(learned))
        learning.append(torch.stack(learned, 1))
        if bounded:
            learners = end_task(parts, replicas, learners, task)
        steps += done * len(replicas)
        backward += done * len(replicas) * (1 + reference_passes(parts.method, past))
        rows.append(look(accuracy, everything))
        observer.tested(task + 1, rows[-1][0])
    total = time.perf_counter() - started
    matrices = torch.stack(rows, 2).double().numpy()
    return Outcome(
        matrices[0],
        matrices[1] if len(matrices) > 1 else None,
        torch.stack(learning, 1).double().numpy() if plan.lca_batches else None,
        torch.stack(glances, 1).double().numpy() if plan.continual else None,
        np.array(moments),
        total - testing,
        testing,
        steps,
        backward,
        learners,
    )


def put(tree: Any, device: torch.device) -> Any:
    """A tree of tensors on a device."""
    return tree_map(lambda tensor: tensor.to(device), tree)


def default(device: torch.device) -> AbstractContextManager[Any]:
    """Where tensors are made that name no device; on a CPU saying so would cost every operation."""
    return nullcontext() if device == CPU else device


def new_learner(parts: Parts, replica: Replica, device: torch.device = CPU) -> Learner:
    """An untrained network, drawn from the replica's seed, with an empty memory."""
    params = parts.model.init(generator(replica.seed, "network")).to(device)
    setting = Setting(params, parts.benchmark.tasks, parts.benchmark.outputs, parts.model.layers)
    with default(device):
        memory = parts.buffer.init()
        stored = params.new_zeros(len(memory.row), parts.benchmark.outputs * parts.method.stores)
        return Learner(
            params,
            parts.model.statistics.to(device),
            parts.optimizer.init(params),
            replica.method.init(setting),
            memory._replace(stored=stored),
        )


def reference_passes(method: Method, past: int) -> int:
    """Backward passes on memory in one step."""
    return {"nothing": 0, "pooled": min(past, 1), "one_task": min(past, 1), "per_task": past}[
        method.references
    ]


def stop_if_diverged(loss: Tensor, task: int, first: int) -> None:
    """Raise a UserError that names the step, if a loss [S, R] is not finite."""
    bad = ~torch.isfinite(loss)
    if bad.any():
        step, replica = (int(found) for found in bad.nonzero()[0])
        raise UserError(
            f"the loss of replica {replica} became {float(loss[step, replica])} in task {task + 1},"
            f" step {first + step + 1}: try a smaller `replicas.lr`"
        )


def accuracy(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    learners: Learner,
    views: View,
    tasks: Sequence[int],
    samples: int | None = None,
) -> Tensor:
    """Accuracy [1 or 2, R, tasks] on the test set of each task, as a fraction of its examples: with
    the logits that count in training, and with the task's own alone where a view tells them apart.

    samples: of a test set that are looked at, evenly spread; all of them when None.
    """

    def right(logits: Tensor, examples: Examples, own: Tensor | Absent) -> Tensor:
        masks = [examples.visible, own] if isinstance(own, Tensor) else [examples.visible]
        guesses = torch.stack([mask(logits, visible).argmax(1) for visible in masks])
        return (guesses == examples.label).sum(1)

    columns = []
    for task in tasks:
        rows = torch.stack([replica.stream.test[task] for replica in replicas])
        if samples and samples < rows.shape[1]:
            rows = rows[:, torch.linspace(0, rows.shape[1] - 1, samples).long()]
        columns.append(mean_of_answers(parts, engine, learners, views, task, rows, right))
    return torch.stack(columns, 1).movedim(2, 0).to(CPU)


def held_out_loss(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    learners: Learner,
    views: View,
    task: int,
) -> float:
    """The mean cross-entropy of a single replica on what is held out of a task."""
    rows = torch.stack([replica.stream.held[task] for replica in replicas])

    def of(logits: Tensor, examples: Examples, own: Tensor | Absent) -> Tensor:
        seen = mask(logits, examples.visible)
        return functional.cross_entropy(seen, examples.label, reduction="sum")

    return float(mean_of_answers(parts, engine, learners, views, task, rows, of))


def mean_of_answers(
    parts: Parts,
    engine: Engine,
    learners: Learner,
    views: View,
    task: int,
    rows: Tensor,
    of: Callable[[Tensor, Examples, Tensor | Absent], Tensor],
) -> Tensor:
    """The mean [R, ...] over rows [R, n] of a task of what the network answers, as it is tested.

    of: (logits [n, outputs], examples, the task's own logits [n, outputs] or absent) -> the sum
    [...] over examples of what is asked for.
    """
    network = make_network(parts.model, training=False)

    def total(learner: Learner, view: View, rows: Tensor, number: Tensor) -> Tensor:
        examples = show(parts.benchmark, view, rows, number)
        params = parts.method.tested(learner.method, learner.params, task, parts.model.layers)
        logits = network(params, learner.statistics, examples).logits
        own = take(view.own, number) if isinstance(view.own, Tensor) else ()
        return of(logits, examples, own)

    with torch.no_grad(), default(engine.device):
        number = torch.full((len(rows), 1), task)
        totals = [
            engine.each(total, learners, views, some, number)
            for some in put(rows, engine.device).split(TEST_BATCH, 1)
        ]
        return torch.stack(totals).sum(0) / rows.shape[1]


def end_task(parts: Parts, replicas: Sequence[Replica], learners: Learner, task: int) -> Learner:
    """Let each replica's method and buffer look at the task that has just ended."""
    device, after = learners.params.device, []
    for number, replica in enumerate(replicas):
        learner, view = index(learners, number), put(replica.stream.view, device)
        rows, owner = part(replica.stream, task)
        rows = rows[owner == task]  # of blurry parts, what came of the task itself
        rows = rows[torch.randperm(len(rows), generator=generator(replica.seed, "end", task))]
        rows = rows.to(device)
        with default(device):
            own, params = replica.method, learner.params
            answering = own.tested(learner.method, params, task, parts.model.layers)
            shown = learner._replace(params=answering)  # the network as the task is tested
            selection = select(parts, shown, view, rows, task)
            memory = parts.buffer.finish(learner.memory, task, selection)
            probe = make_probe(parts, shown._replace(memory=memory), view, rows, task)
            state = own.end_task(learner.method, params, probe)
            params = own.restart(state, params)
        after.append(learner._replace(params=params, method=state, memory=memory))
    learners_after: Learner = stack(after)
    return learners_after


def make_probe(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> Probe:
    """What the replica's method may ask of its network about the ended task."""

    network, own = make_network(parts.model, training=False), torch.tensor([task])

    def number(params: Tensor, of: OfOne, rows: Tensor, tasks: Tensor) -> Tensor:
        examples = show(parts.benchmark, view, rows, tasks)
        return of(network(params, learner.statistics, examples).logits, examples)

    def mean_gradient(of: OfOne, rows: Tensor, tasks: Tensor = own) -> Tensor:
        found: Tensor = torch.func.grad(number)(learner.params, of, rows, tasks)
        return found

    def sample_gradients(of: OfOne, rows: Tensor, tasks: Tensor = own) -> Tensor:
        each = tasks.expand(len(rows))[:, None]
        found: Tensor = torch.func.vmap(partial(mean_gradient, of))(rows[:, None], each)
        return found

    def inputs(rows: Tensor, tasks: Tensor = own) -> tuple[Tensor, ...]:
        if parts.model.inputs is None:
            raise UserError("`method` needs the inputs of every layer, which this `model` hides")
        x = show(parts.benchmark, view, rows, tasks).x
        return parts.model.inputs(learner.params, learner.statistics, x)

    def memory_inputs(slots: Tensor) -> tuple[Tensor, ...]:
        return inputs(learner.memory.row[slots], learner.memory.task[slots])

    def memory_gradient(params: Tensor, slots: Tensor) -> Tensor:
        row, task = learner.memory.row[slots], learner.memory.task[slots]
        examples = show(parts.benchmark, view, row, task)

        def loss(params: Tensor) -> Tensor:
            return cross_entropy(network(params, learner.statistics, examples).logits, examples)

        found: Tensor = torch.func.grad(loss)(params)
        return found

    held = (learner.memory.row >= 0).nonzero()[:, 0]
    used = learner.params.new_zeros(parts.benchmark.outputs)
    used[show(parts.benchmark, view, rows, own).label] = 1
    layers = parts.model.layers
    asked = sample_gradients, mean_gradient, inputs
    return Probe(rows, task, *asked, layers, used, held, memory_gradient, memory_inputs)


def select(parts: Parts, learner: Learner, view: View, rows: Tensor, task: int) -> Selection:
    """The ended task's examples as its buffer sees them."""
    position = view.position[parts.benchmark.y[rows]]
    nothing = learner.params.new_zeros(len(rows), 0)
    wants, stores = parts.buffer.wants_features, parts.method.stores
    if not wants and not stores:
        return Selection(rows, position, nothing, nothing)
    network, own = make_network(parts.model, training=False), torch.tensor([task])
    with torch.no_grad():
        found = [
            network(learner.params, learner.statistics, show(parts.benchmark, view, part, own))
            for part in rows.split(TEST_BATCH)
        ]
    features, logits = (torch.cat([getattr(o, n) for o in found]) for n in ("features", "logits"))
    return Selection(rows, position, features, logits if stores else nothing)
