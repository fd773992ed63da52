"""How long a run will take, on a clock of its own."""

from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.results.durations import duration_text
from gradalign_cli.results.remaining_time import STEP_SECONDS, RemainingTime, Work, work_of
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, train

WORK = Work((100, 100, 100), (10, 110, 210), (500, 500, 500), 0)


class Simulation:
    """A run whose seconds are simulated: a step takes a second for every 10 examples and `fixed`
    besides, a test of all 1,500 examples a third of a step for each, the end of a task 7."""

    def __init__(self, replicas=1, warm_up=0.0, compiling=0.0, fixed=STEP_SECONDS, tested=0.0):
        self.now, self.evaluator, self.warm_up = 0.0, SimpleNamespace(seconds=0.0), warm_up
        self.compiling, self.fixed, self.tested = compiling, fixed, tested
        work = WORK._replace(tests_between_steps=tested > 0)
        self.remaining_time = RemainingTime(work, replicas, lambda: self.now)
        self.totals = []  # seconds so far and those that are forecast, after every stretch

    def test(self, row):
        self.now += 50.0
        self.evaluator.seconds += 50.0
        self.remaining_time.after_test(row, torch.zeros(1, 3))

    def round(self, replicas=(0,)):
        self.evaluator.seconds = 0.0
        self.remaining_time.begin_replica_group(replicas)
        self.test(0)
        for task, examples in enumerate(WORK.examples_per_step):
            for step in range(20, 101, 20):
                self.now += 20 * (self.fixed + examples / 10)
                self.now += {20: self.warm_up, 40: self.compiling}.get(step, 0)
                trace = SimpleNamespace(loss=torch.zeros(20, 1))
                moment = SimpleNamespace(
                    task=task, task_steps_done=step, trace=trace, evaluator=self.evaluator
                )
                self.remaining_time.after_steps(moment)
                self.now += self.tested  # by a watcher that is told next
                self.evaluator.seconds += self.tested
                left = self.remaining_time.seconds_left()
                self.totals.append(None if left is None else self.now + left)
            self.now += 7
            self.test(task + 1)
        self.remaining_time.end_replica_group(None)


def test_later_tasks_whose_steps_read_more_are_forecast_from_the_first_ones_steps():
    run = Simulation()
    run.round()
    assert run.totals[:2] == [None] * 2  # the first stretch warms up, the second may compile
    assert run.totals[2] == pytest.approx(run.now, rel=0.01)  # the ends of tasks are not known yet
    assert run.totals[5:] == pytest.approx([run.now] * 10)


def test_what_warms_up_does_not_count():
    run = Simulation(warm_up=1000.0, compiling=500.0)
    run.round()
    assert run.totals[2] == pytest.approx(run.now - 2 * 1500, rel=0.01)


def test_what_a_step_takes_whatever_it_reads_is_told_from_what_its_examples_take():
    """By how long a test takes; else a step of 10 examples would seem to spend it all on them."""
    run = Simulation(fixed=4.0)
    run.round()
    assert run.totals[2] == pytest.approx(run.now, rel=0.01)


def test_tests_between_the_steps_count_as_a_part_of_them():
    run = Simulation(tested=100.0)
    run.round()
    assert run.totals[2] == pytest.approx(run.now, rel=0.01)


def test_groups_that_are_still_to_come_take_as_long_as_the_present_one():
    run = Simulation(replicas=3)
    run.round([0, 1])
    whole = run.now
    assert run.totals[-1] == pytest.approx(1.5 * whole, rel=0.01)
    run.round([2])
    assert run.remaining_time.share_done() == pytest.approx(1)


def test_tests_count_as_a_part_of_what_is_done():
    run = Simulation(replicas=2)
    assert run.remaining_time.share_done() == 0
    run.test(0)
    after_test = run.remaining_time.share_done()
    assert 0 < after_test < 0.1
    run.remaining_time.begin_replica_group([0])  # what a round that is void did does not count
    assert run.remaining_time.share_done() == 0
    run.round([0])
    assert run.remaining_time.share_done() == pytest.approx(0.5)


def test_the_first_seconds_of_the_first_task_are_too_little_to_tell():
    run, told = Simulation(), []
    run.remaining_time.begin_replica_group([0])
    run.test(0)
    for step, seconds in ((20, 1), (40, 1), (60, 1), (80, 3)):
        run.now += seconds
        trace = SimpleNamespace(loss=torch.zeros(20, 1))
        run.remaining_time.after_steps(
            SimpleNamespace(task=0, task_steps_done=step, trace=trace, evaluator=run.evaluator)
        )
        told.append(run.remaining_time.has_measured_enough())
    assert told == [False, False, False, True]


def test_the_work_of_a_run_is_that_which_it_does(tiny):
    parts = make_parts(tiny, method("gem"), samples=20)
    (replica,) = make_replicas(parts)
    plan = TrainingPlan(2, 5, 1, 3)
    work = work_of(parts, replica, plan)
    assert sum(work.task_steps) == train(parts, [replica], plan=plan).steps
    assert work.examples_per_step == (5, 5 + 6, 5 + 2 * 6)  # six of each earlier task
    assert work.test_set_sizes == (10, 10, 10)
    assert work.learning_curve_tests == 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (40, "40 seconds"),
        (89, "89 seconds"),
        (100, "2 minutes"),
        (3600, "60 minutes"),
        (9000, "2.5 hours"),
        (12 * 3600, "12 hours"),
        (50 * 3600, "2.1 days"),
    ],
)
def test_a_duration_is_told_in_words(seconds, words):
    assert duration_text(seconds) == words
