"""The main loop: tasks, chunks of steps, tests. It knows no benchmark, method or buffer by name."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.engines.engine import Engine
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.devices import CPU, default_device, to_device
from gradalign_cli.numerics.trees import tree_stack
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.reading_sizes import backward_passes
from gradalign_cli.step.reference_examples import with_reference_cache
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace
from gradalign_cli.training.evaluation import Evaluator
from gradalign_cli.training.pace import Pace
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica, new_learner
from gradalign_cli.training.task_begin import begin_task
from gradalign_cli.training.task_end import end_task
from gradalign_cli.training.task_steps import prepare_task
from gradalign_cli.training.watcher import Moment, Watcher


class TrainingResult(NamedTuple):
    """What `run` gives.

    accuracy_matrices: [1 or 2, R, T + 1, T] accuracy; where the run is class-incremental also the
    accuracy with each task's own logits alone.  Seconds, steps and backward passes are of all
    replicas together; the held-out loss of a schedule counts as evaluation.  learners: [R, ...] at
    the end.
    """

    accuracy_matrices: np.ndarray
    training_seconds: float
    evaluation_seconds: float
    steps: int
    backward_passes: int
    learners: Learner


def run(
    parts: Parts,
    replicas: Sequence[Replica],
    engine: Engine,
    plan: Plan,
    watchers: Sequence[Watcher],
) -> TrainingResult:
    """Train all replicas on the tasks of their streams in sequence; test them on every task before
    the first task and after each.

    All replicas have equally large tasks. Where there is a schedule there is one replica.
    """
    started, tasks = time.perf_counter(), range(parts.benchmark.tasks)
    views: TaskViews = to_device(
        tree_stack([replica.stream.view for replica in replicas]), engine.device
    )
    learners = tree_stack([new_learner(parts, replica, engine.device) for replica in replicas])
    evaluator, steps, passes = Evaluator(parts, replicas, engine), 0, 0
    rows = [evaluator.accuracy(learners, views, tasks)]
    report_test(watchers, 0, rows[0][0])
    for task in tasks:
        learners = begin_task(parts, replicas, learners, task)
        work, step = prepare_task(parts, replicas, engine, plan, task), 0
        pace = Pace(parts.schedule, replicas, learners)
        with default_device(engine.device):
            views = with_reference_cache(parts, work.past_tasks, learners, views)
        for draws in work.draw_chunks:
            cycle = rotated(work.step_cycle, step)
            learners, trace = take_steps(engine, cycle, learners, pace.with_step_size(draws), views)
            stop_if_diverged(trace.loss, task, step)
            measured = torch.arange(step, step + len(trace.loss)) % plan.alignment_every == 0
            step += len(trace.loss)
            passes += trace.loss.numel() * backward_passes(
                parts, work.past_tasks, draws.rows.shape[-1]
            )
            lengths = work.steps, work.steps_per_pass
            moment = Moment(task, step, *lengths, trace, measured, learners, views, evaluator)
            if any([watcher.after_steps(moment) for watcher in (*watchers, pace)]):
                break
        learners = pace.learners_at_end(learners)
        stop_if_not_finite(learners.params, task)
        if parts.benchmark.boundaries != "none":
            learners = end_task(parts, replicas, learners, task)
        steps += step * len(replicas)
        rows.append(evaluator.accuracy(learners, views, tasks))
        report_test(watchers, task + 1, rows[-1][0])
    seconds = time.perf_counter() - started - evaluator.seconds
    accuracy_matrices = torch.stack(rows, 2).double().numpy()
    return TrainingResult(accuracy_matrices, seconds, evaluator.seconds, steps, passes, learners)


def report_test(watchers: Sequence[Watcher], ended_tasks: int, accuracy: Tensor) -> None:
    """Tell the watchers a new row [R, T] of the accuracy matrix."""
    for watcher in watchers:
        watcher.after_test(ended_tasks, accuracy)


def rotated(step_cycle: Sequence[Step], steps_done: int) -> Sequence[Step]:
    """The cycle as it goes on after so many steps."""
    next_function = steps_done % len(step_cycle)
    return [*step_cycle[next_function:], *step_cycle[:next_function]]


def take_steps(
    engine: Engine, step_cycle: Sequence[Step], learners: Learner, draws: Draw, views: TaskViews
) -> tuple[Learner, Trace]:
    """The learners [R, ...] after the steps of a chunk, and its traces [S, R] on the CPU."""
    with default_device(engine.device):
        learners, trace = engine.run_steps(
            step_cycle, learners, to_device(draws, engine.device), views
        )
    return learners, to_device(trace, CPU)


def stop_if_diverged(loss: Tensor, task: int, first_step: int) -> None:
    """Raise a UserError that names the step, if a loss [S, R] is not finite."""
    bad = ~torch.isfinite(loss)
    if bad.any():
        step, replica = (int(place) for place in bad.nonzero()[0])
        raise UserError(
            f"the loss of replica {replica} became {float(loss[step, replica])} in task {task + 1},"
            f" step {first_step + step + 1}: try a smaller `replicas.lr`"
        )


def stop_if_not_finite(params: Tensor, task: int) -> None:
    """Raise a UserError if parameters [R, P] are not finite after a task: losses, which are taken
    before each update, do not show what the last update did."""
    bad = ~torch.isfinite(params).all(1)
    if bad.any():
        raise UserError(
            f"the parameters of replica {int(bad.nonzero()[0])} are not finite after the last step"
            f" of task {task + 1}: try a smaller `replicas.lr`"
        )
