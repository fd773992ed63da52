"""How much of a run is done, and how long the rest will take by what its steps took so far."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import NamedTuple

from torch import Tensor

from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import examples_of_step
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.watcher import Moment, State

PASSES_OF_STEP = 3  # forward and twice backward, of which a test takes the first alone
STEP_SECONDS = 0.0005  # of a step, at least, whatever the number of its examples
MOST_STRETCHES = 99  # of steps, whose median counts
ENOUGH_SECONDS = 3.0  # of steps, to forecast tasks whose steps read more of the memory


class Work(NamedTuple):
    """What a replica has to do in each of its T tasks.

    task_steps: at most;  examples_per_step: through the network in one step;  test_set_sizes: of
    the task's test set;  learning_curve_tests: tests of the task alone after its first steps;
    tests_between_steps: whether tasks so far are tested throughout.
    """

    task_steps: tuple[int, ...]
    examples_per_step: tuple[int, ...]
    test_set_sizes: tuple[int, ...]
    learning_curve_tests: int
    tests_between_steps: bool = False


def work_of(parts: Parts, replica: Replica, plan: TrainingPlan) -> Work:
    """What a replica has to do, if no pass is left out."""
    stream, tasks = replica.stream, range(parts.benchmark.tasks)
    bounded = parts.benchmark.boundaries != "none"
    return Work(
        tuple(-(-len(rows) // plan.batch_size) * plan.passes for rows in stream.train_rows),
        tuple(
            examples_of_step(
                parts, task if bounded else len(tasks), min(plan.batch_size, len(rows))
            )
            for task, rows in zip(tasks, stream.train_rows, strict=True)
        ),
        tuple(len(rows) for rows in stream.test_rows),
        plan.lca_batches,
        plan.continual_every > 0,
    )


class RemainingTime:
    """Counts a run's steps and tests and measures what they take, as it is told of them.

    The first stretch of steps of each task is not measured, as it warms up. Of the others the
    median counts, as one of them compiles. Steps that see more examples are taken to last longer in
    proportion, by no more than those examples take in a test and on the way back.
    """

    def __init__(
        self, work: Work, replica_count: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.work, self.replicas, self.clock = work, replica_count, clock
        self.finished_replicas, self.group_size = 0, replica_count
        self.step_seconds = self.test_seconds = self.end_seconds = 0.0
        self.measured_task = -1  # whose steps take `step_seconds`
        self.begin_replica_group([])

    def begin_replica_group(self, replica_numbers: Sequence[int]) -> None:
        """These replicas train; what an unfinished group did is void."""
        self.group_size = len(replica_numbers) or self.group_size
        self.task, self.step, self.rows = 0, 0, 0
        self.begin_task()
        self.evaluation_mark = 0.0

    def begin_task(self) -> None:
        """No stretch of steps of the task is done or measured."""
        self.stretches, self.mark = 0, self.clock()
        self.measured_seconds = 0.0
        self.recent_step_seconds: deque[float] = deque(maxlen=MOST_STRETCHES)

    def end_replica_group(self, problem: str | None) -> None:
        """The replicas of the group are finished, unless there was a problem."""
        self.finished_replicas += 0 if problem else self.group_size
        self.begin_replica_group([])

    def after_steps(self, moment: Moment) -> None:
        """Count a stretch of steps; measure it unless it is the first of its task."""
        now, evaluation = self.clock(), moment.evaluator.seconds
        tests_apart = evaluation - self.evaluation_mark  # seconds that are none of the steps
        if self.work.tests_between_steps:  # those belong to the steps, those of the curve do not
            curve = range(self.step, min(moment.task_steps_done, self.work.learning_curve_tests))
            curve_examples = len(curve) * self.work.test_set_sizes[moment.task]
            tests_apart = min(tests_apart, curve_examples * self.test_seconds)
        seconds = now - self.mark - tests_apart
        if moment.task == 0 and self.stretches == 0:  # so far the test of the untrained network
            self.test_seconds = evaluation / sum(self.work.test_set_sizes)
        if self.stretches:
            self.measured_seconds += seconds
            self.recent_step_seconds.append(seconds / len(moment.trace.loss))
            is_last = moment.task_steps_done == self.work.task_steps[moment.task]
            if len(self.recent_step_seconds) > 1 or is_last:
                self.measured_task = moment.task
                self.step_seconds = median_low(self.recent_step_seconds)
        self.task, self.step = moment.task, moment.task_steps_done
        self.stretches += 1
        self.mark, self.evaluation_mark = now, evaluation

    def after_test(self, ended_tasks: int, accuracy: Tensor) -> None:
        """Count a test of all tasks, and measure the end of the task before it."""
        now = self.clock()
        if ended_tasks:
            test = self.test_seconds * sum(self.work.test_set_sizes)
            self.end_seconds = max(0.0, now - self.mark - test)
        self.task, self.step, self.rows = ended_tasks, 0, ended_tasks + 1
        self.begin_task()

    def state(self) -> State:
        """How much is done, and what a test of one example took."""
        names = ("finished_replicas", "group_size", "task", "step", "rows", "test_seconds")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: State) -> None:
        """Go on from there. Steps are measured anew, without the first stretch."""
        for name, value in state.items():
            setattr(self, name, value)

    def share_done(self) -> float:
        """The share of the run that is done, by how many examples went through the network."""
        sizes = [PASSES_OF_STEP * examples for examples in self.work.examples_per_step]
        test = sum(self.work.test_set_sizes)
        tasks = len(sizes)
        whole = sum(n * size for n, size in zip(self.work.task_steps, sizes, strict=True))
        whole += test * (tasks + 1)
        done = sum(
            n * size for n, size in zip(self.work.task_steps[: self.task], sizes, strict=False)
        )
        done += test * self.rows + (self.step * sizes[self.task] if self.task < tasks else 0)
        finished = self.finished_replicas + self.group_size * done / whole
        return min(1.0, finished / self.replicas)

    def has_measured_enough(self) -> bool:
        """Whether enough steps were measured: some that read what the memory has of earlier tasks,
        or seconds of others."""
        if self.measured_task < 0:
            return False
        later = self.measured_task > 0 or len(self.work.task_steps) == 1
        return later or self.measured_seconds >= ENOUGH_SECONDS

    def seconds_left(self) -> float | None:
        """The seconds that the run will still take; None before steps were measured."""
        if self.measured_task < 0:
            return None
        whole = self.group_seconds_left(0, 0)
        after_this = self.replicas - self.finished_replicas - self.group_size
        return self.group_seconds_left(self.task, self.step) + whole * after_this / self.group_size

    def group_seconds_left(self, task: int, task_steps_done: int) -> float:
        """The seconds from a place in a task to the end of a group."""
        fixed = min(STEP_SECONDS, self.step_seconds / 2)
        examples = self.work.examples_per_step[self.measured_task]
        per_example = (self.step_seconds - fixed) / examples
        if self.test_seconds:
            per_example = min(per_example, PASSES_OF_STEP * self.test_seconds)
            fixed = self.step_seconds - per_example * examples
        total = 0.0
        for number in range(task, len(self.work.task_steps)):
            first = task_steps_done if number == task else 0
            per_step = fixed + per_example * self.work.examples_per_step[number]
            curve = max(
                0, min(self.work.learning_curve_tests, self.work.task_steps[number]) - first
            )
            tested = sum(self.work.test_set_sizes) + curve * self.work.test_set_sizes[number]
            total += (self.work.task_steps[number] - first) * per_step
            total += self.test_seconds * tested + self.end_seconds
        return total
