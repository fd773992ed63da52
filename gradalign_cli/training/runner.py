"""The main loop: tasks, chunks of steps, tests. It knows no benchmark, method or buffer by name."""

import time
from collections.abc import Callable, Iterator, Sequence
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
from gradalign_cli.step.reference_examples import with_cached_reference_examples
from gradalign_cli.step.step import Step
from gradalign_cli.step.trace import Trace
from gradalign_cli.training.evaluation import Evaluator
from gradalign_cli.training.pace import Pace
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.position import Position, SavePosition, first_position, save_nothing
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.step_images import StepImages
from gradalign_cli.training.task_begin import begin_task
from gradalign_cli.training.task_end import end_task
from gradalign_cli.training.task_steps import TaskSteps, prepare_task, steps_of_tasks
from gradalign_cli.training.watcher import Moment, Watcher

SMALLER_STEPS = "try a smaller `replicas.lr`, or a smaller step size or strength of the method"


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
    plan: TrainingPlan,
    watchers: Sequence[Watcher],
    start_position: Position | None = None,
    save_position: SavePosition = save_nothing,
) -> TrainingResult:
    """Train all replicas on the tasks of their streams in sequence; test them on every task before
    the first task and after each.

    All replicas have equally large tasks. Where a schedule looks at losses there is one replica.
    start_position: where to go on, with watchers that were there too;  save_position: is told of
    every position that training comes to, after the watchers.
    """
    position = start_position or first_position(parts, replicas, engine)
    clock, tasks = time.perf_counter() - position.seconds, range(parts.benchmark.tasks)
    views: TaskViews = stacked_views(replicas, engine)
    evaluator = Evaluator(parts, replicas, engine, position.evaluation_seconds)
    steps_by_task = steps_of_tasks(parts, replicas[0], plan)
    images = StepImages(parts, len(replicas), plan, engine.device)
    if not position.rows:
        position = after_test_of_all_tasks(position, evaluator, views, watchers)
    for task in tasks[position.task :]:
        position = position_in_task(position, parts, replicas, task)
        task_steps = prepare_task(images.parts, replicas, engine, plan, task)
        pace = Pace(parts.schedule, replicas, position.learners, steps_by_task, task, position.pace)
        views = views_for_task(views, parts, task_steps.past_tasks, position.learners, engine)
        chunks = remaining_chunks(task_steps, engine, position.step)
        for draws, next_draws in images.with_next(chunks):
            step, cycle = position.step, rotated_cycle(task_steps.step_cycle, position.step)
            draws = pace.with_step_size(draws, step)
            meanwhile = images.load_and_get_prefetch(draws, next_draws, position.learners)
            learners, trace = take_steps(engine, cycle, position.learners, draws, views, meanwhile)
            stop_if_diverged(trace.loss, task, step)
            measured = torch.arange(step, step + len(trace.loss)) % plan.measure_angles_every == 0
            position = advanced_position(position, parts, task_steps, draws, learners)
            lengths = position.step, task_steps.steps, task_steps.steps_per_pass
            moment = Moment(task, *lengths, trace, measured, learners, views, evaluator)
            stops = [watcher.after_steps(moment) for watcher in watchers]
            if any([*stops, pace.after_steps(moment)]):
                break
            paced_position = position._replace(pace=pace.state())
            save_position(with_seconds(paced_position, clock, evaluator.seconds))
        learners = end_of_task(pace.learners_at_end(position.learners), parts, replicas, task)
        position = position._replace(task=task + 1, step=0, learners=learners, pace=())
        position = after_test_of_all_tasks(position, evaluator, views, watchers)
        save_position(with_seconds(position, clock, evaluator.seconds))
    return training_result(position, clock, evaluator.seconds)


def position_in_task(
    position: Position, parts: Parts, replicas: Sequence[Replica], task: int
) -> Position:
    """The position with the learners that the next step starts from: where it is the first of the
    task, the task begins."""
    if position.step:
        return position
    return position._replace(learners=begin_task(parts, replicas, position.learners, task))


def views_for_task(
    views: TaskViews, parts: Parts, past_tasks: int, learners: Learner, engine: Engine
) -> TaskViews:
    """The views [R, ...] with the images that references may read in this task, see
    `with_cached_reference_examples`."""
    with default_device(engine.device):
        return with_cached_reference_examples(parts, past_tasks, learners, views)


def end_of_task(learners: Learner, parts: Parts, replicas: Sequence[Replica], task: int) -> Learner:
    """The learners after the end of a task, of which they are told unless the stream has none."""
    stop_if_not_finite(learners.params, task)
    if parts.benchmark.boundaries == "none":
        return learners
    return end_task(parts, replicas, learners, task)


def training_result(
    position: Position, start_clock: float, evaluation_seconds: float
) -> TrainingResult:
    """What training gives that has come to its last position."""
    seconds = time.perf_counter() - start_clock - evaluation_seconds
    accuracy_matrices = torch.stack(position.rows, 2).double().numpy()
    counts = evaluation_seconds, position.steps, position.backward_passes
    return TrainingResult(accuracy_matrices, seconds, *counts, position.learners)


def with_seconds(position: Position, start_clock: float, evaluation_seconds: float) -> Position:
    """The position with the seconds since `start_clock`."""
    seconds = time.perf_counter() - start_clock
    return position._replace(seconds=seconds, evaluation_seconds=evaluation_seconds)


def stacked_views(replicas: Sequence[Replica], engine: Engine) -> TaskViews:
    """The views [R, ...] of all replicas, on the engine's device."""
    views: TaskViews = to_device(tree_stack([r.stream.view for r in replicas]), engine.device)
    return views


def after_test_of_all_tasks(
    position: Position, evaluator: Evaluator, views: TaskViews, watchers: Sequence[Watcher]
) -> Position:
    """The position with a new row of the accuracy matrices, which the watchers are told of."""
    row = evaluator.accuracy(position.learners, views, range(evaluator.parts.benchmark.tasks))
    report_test(watchers, position.task, row[0])
    return position._replace(rows=[*position.rows, row])


def remaining_chunks(task_steps: TaskSteps, engine: Engine, task_steps_done: int) -> Iterator[Draw]:
    """The draws of the chunks that are left after so many steps of a task. Those before are drawn
    too, as every random number follows from the one before it."""
    step = 0
    for draws in task_steps.draw_chunks:
        if step < task_steps_done:
            engine.note_steps_before_resume(rotated_cycle(task_steps.step_cycle, step), draws)
        else:
            yield draws
        step += len(draws.rows)


def advanced_position(
    position: Position, parts: Parts, task_steps: TaskSteps, chunk_draws: Draw, learners: Learner
) -> Position:
    """The position after a chunk of steps with these draws, which led to these learners."""
    steps, replicas, batch_size = chunk_draws.rows.shape
    passes = steps * replicas * backward_passes(parts, task_steps.past_tasks, batch_size)
    return position._replace(
        step=position.step + steps,
        learners=learners,
        steps=position.steps + steps * replicas,
        backward_passes=position.backward_passes + passes,
    )


def report_test(watchers: Sequence[Watcher], ended_tasks: int, accuracy: Tensor) -> None:
    """Tell the watchers a new row [R, T] of the accuracy matrix."""
    for watcher in watchers:
        watcher.after_test(ended_tasks, accuracy)


def rotated_cycle(step_cycle: Sequence[Step], task_steps_done: int) -> Sequence[Step]:
    """The cycle as it goes on after so many steps."""
    next_function = task_steps_done % len(step_cycle)
    return [*step_cycle[next_function:], *step_cycle[:next_function]]


def take_steps(
    engine: Engine,
    step_cycle: Sequence[Step],
    learners: Learner,
    draws: Draw,
    views: TaskViews,
    meanwhile: Callable[[], None],
) -> tuple[Learner, Trace]:
    """The learners [R, ...] after the steps of a chunk, and its traces [S, R] on the CPU;
    meanwhile: what the host does while a GPU still takes the steps."""
    with default_device(engine.device):
        learners, trace = engine.run_steps(
            step_cycle, learners, to_device(draws, engine.device), views
        )
    meanwhile()
    return learners, to_device(trace, CPU)


def stop_if_diverged(loss: Tensor, task: int, first_step: int) -> None:
    """Raise a UserError that names the step, if a loss [S, R] is not finite."""
    bad = ~torch.isfinite(loss)
    if bad.any():
        step, replica = (int(place) for place in bad.nonzero()[0])
        raise UserError(
            f"the loss of replica {replica} became {float(loss[step, replica])} in task {task + 1},"
            f" step {first_step + step + 1}: {SMALLER_STEPS}"
        )


def stop_if_not_finite(params: Tensor, task: int) -> None:
    """Raise a UserError if parameters [R, P] are not finite after a task: losses, which are taken
    before each update, do not show what the last update did."""
    bad = ~torch.isfinite(params).all(1)
    if bad.any():
        raise UserError(
            f"the parameters of replica {int(bad.nonzero()[0])} are not finite after the last step"
            f" of task {task + 1}: {SMALLER_STEPS}"
        )
