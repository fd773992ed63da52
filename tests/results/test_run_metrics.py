"""Means and intervals are over the seeds of one setting."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from gradalign_cli.results.display import run_tables
from gradalign_cli.results.run_folder import json_text
from gradalign_cli.results.run_metrics import run_metrics
from gradalign_cli.training.outcome import Outcome

NUMBERS = [{"seed": s, "lr": lr} for s in (0, 1, 2) for lr in (0.03, 0.1)]


def results():
    """Of six replicas on two tasks whose last accuracy is known."""
    acc = np.array([0.5, 0.8, 0.6, 0.9, 0.7, 1.0])
    accuracy = np.full((6, 3, 2), 0.5)
    accuracy[:, 2] = acc[:, None]
    outcome = Outcome(accuracy, None, None, None, [], 1.0, 1.0, 1, 1, ())
    return run_metrics(outcome, NUMBERS, "standard"), accuracy


def test_seeds_are_pooled_within_a_setting_and_settings_are_not():
    settings = results()[0]["settings"]
    assert [setting["lr"] for setting in settings] == [0.03, 0.1]
    assert [setting["ACC"]["mean"] for setting in settings] == pytest.approx([0.6, 0.9])
    for setting in settings:
        assert setting["ACC"]["n"] == 3
        assert setting["ACC"]["std"] == pytest.approx(0.1)
        half_width = 4.302653 * 0.1 / np.sqrt(3)  # Student's t of two degrees of freedom
        assert setting["ACC"]["ci95_high"] - setting["ACC"]["mean"] == pytest.approx(half_width)


def test_the_task_that_a_test_between_the_steps_interrupts_is_the_first_entry_of_its_moment():
    """Task 1 falls from 0.9 to 0.4 in the first step of task 2 and returns to 0.8."""
    accuracy = np.full((1, 3, 2), 0.5)
    between = np.array([[[0.9, np.nan], [0.4, 0.5], [0.8, 0.6]]])
    moments = [np.array([[0, 1], [1, 1], [1, 2]])]  # [S, 2] task and step
    outcome = Outcome(accuracy, None, None, None, [], 1.0, 1.0, 1, 1, ())
    outcome = outcome._replace(continual_accuracy=between, continual_moments=moments)
    values = run_metrics(outcome, [{"seed": 0, "lr": 0.1}], "standard")["replicas"][0]
    assert values["min_ACC"] == 0.4
    assert values["stability_gap"] == pytest.approx(0.8 - 0.4)


def test_the_tables_say_which_setting_is_which():
    metrics, accuracy = results()
    console = Console(file=io.StringIO(), width=80)
    order = [0, 2, 4, 1, 3, 5]
    for table in run_tables(metrics["settings"], accuracy[order]):
        console.print(table)
    text = console.file.getvalue()
    titles = " ".join(text.split())
    assert "percent, mean of 3 seeds, lr=0.03" in titles
    assert "percent, mean of 3 seeds, lr=0.1" in titles
    rows = [line for line in text.splitlines() if line.startswith("│ lr=")]
    assert ["60.00" in rows[0], "90.00" in rows[1]] == [True, True]


def test_json_has_no_nan():
    text = json_text({"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": 0.5}})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": 0.5},
    }
