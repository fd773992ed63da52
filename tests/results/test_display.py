"""The live line and what a run says, on terminals of fixed widths and without one."""

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from gradalign_cli.results.display import Display, progress_line, time_left_text
from gradalign_cli.results.remaining_time import RemainingTime
from tests.results.test_remaining_time import WORK

PARTS = ("task 3/20", 0.5, "step 40/250", "loss 0.412  ACC 0.713  cosine -0.12", "0:12:03 left")


def rendered(width, *parts):
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(progress_line(width, *parts))
    return capture.get()


@pytest.mark.parametrize(
    ("width", "shown", "dropped"),
    [
        (120, ("task 3/20", "━", "step 40/250", "loss 0.412", "0:12:03 left"), ()),
        (60, ("task 3/20", "━", "step 40/250", "0:12:03 left"), ("loss",)),
        (40, ("task 3/20", "━", "0:12:03 left"), ("loss", "step")),
        (24, ("task 3/20", "0:12:03 left"), ("loss", "step", "━")),
        (14, ("0:12:03 left",), ("task", "loss", "step", "━")),
    ],
)
def test_a_narrow_terminal_keeps_the_time_left_longest(width, shown, dropped):
    line = rendered(width, *PARTS)
    assert line.count("\n") == 1
    assert len(line.rstrip("\n")) <= width
    assert all(part in line for part in shown)
    assert not any(part in line for part in dropped)


def test_the_time_left_is_told_once_it_is_known():
    assert time_left_text(None) == "-:--:-- left"
    assert time_left_text(3723.4) == "1:02:03 left"


class Run:
    """A display that is told of steps that take a given time each."""

    def __init__(self, step_seconds, terminal=False, replicas=1, advice="; try less"):
        self.now, self.step_seconds = 0.0, step_seconds
        self.console = Console(record=True, width=100, force_terminal=terminal)
        self.remaining_time = RemainingTime(WORK, replicas, lambda: self.now)
        self.display = Display(self.console, self.remaining_time, advice)

    def begin(self, replicas):
        self.display.begin_replica_group(replicas)
        self.display.after_test(0, torch.zeros(1, 3))

    def steps(self, task, *steps):
        for step in steps:
            self.now += 20 * self.step_seconds
            trace = SimpleNamespace(loss=torch.ones(20, 1), cosine=torch.full((20, 1), 0.25))
            self.display.after_steps(
                SimpleNamespace(
                    task=task, task_steps_done=step, trace=trace,
                    measured_step_mask=torch.arange(20) == 0,
                    evaluator=SimpleNamespace(seconds=0.0),
                )
            )  # fmt: skip

    def line(self):
        console = Console(width=100, record=True)
        with console.capture() as capture:
            console.print(self.display.line())
        return capture.get()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_run_says_once_how_long_it_takes_and_how_to_try_it_in_small(terminal):
    run = Run(10.0, terminal)
    run.begin([0])
    run.steps(0, 20, 40)
    assert run.console.export_text(clear=False) == ""
    run.steps(0, 60, 80)
    text = run.console.export_text()
    assert text.count("to go") == 1
    assert text == "about 9.0 hours to go; try less\n"


def test_a_run_of_minutes_needs_no_advice_and_one_of_seconds_no_forecast():
    minutes, seconds = Run(0.1), Run(0.002)
    for run in (minutes, seconds):
        run.begin([0])
        run.steps(0, 20, 40, 60, 80, 100)
        run.display.after_test(1, torch.zeros(1, 3))
        run.steps(1, 20, 40, 60)
    said, corrected = minutes.console.export_text().splitlines()
    assert said == "about 5 minutes to go"
    assert corrected == "now about 23 seconds to go"  # steps of later tasks were no longer
    assert seconds.console.export_text() == ""


def test_the_line_counts_replicas_in_rounds_and_follows_steps_and_tests():
    run = Run(1.0, replicas=5)
    run.begin([0, 1])
    assert "replicas 1-2 of 5, task 1/3" in run.line()
    run.steps(0, 20, 40, 60)
    assert "step 60/100 loss 1.000  cosine +0.25" in run.line()
    run.now += 5
    before = run.remaining_time.seconds_left()
    assert time_left_text(before - 5) in run.line()
    share = run.remaining_time.share_done()
    run.display.after_test(1, torch.full((1, 3), 0.5))
    assert run.remaining_time.share_done() > share
    run.steps(1, 20)
    assert "task 2/3" in run.line()
    assert "ACC 0.500" in run.line()
    run.display.end_replica_group(None)
    run.begin([4])
    assert "replica 3 of 5" in run.line()


def test_a_terminal_shows_the_line_and_a_pipe_does_not():
    for terminal in (True, False):
        run = Run(1.0, terminal)
        with run.console.capture() as capture, run.display:
            run.begin([0])
        assert ("task 1/3" in capture.get()) == terminal
