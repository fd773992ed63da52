"""The main loop: tasks, chunks of steps, tests. It knows no benchmark, method or buffer by name."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import View
from gradalign_cli.draws import chunks, passes
from gradalign_cli.engines.engine import CPU, Engine
from gradalign_cli.errors import UserError
from gradalign_cli.evaluation import accuracy, held_out_loss
from gradalign_cli.learner import Learner, Parts, Trace
from gradalign_cli.methods.method import Method
from gradalign_cli.reading import with_shown
from gradalign_cli.replica import Replica, default, new_learner, put
from gradalign_cli.schedules.schedule import begun, judged
from gradalign_cli.step import make_step, uniforms
from gradalign_cli.task_end import end_task
from gradalign_cli.trees import stack

CHUNK = 100  # steps between two looks at the traces


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
            views = with_shown(parts, past, learners, views)
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
