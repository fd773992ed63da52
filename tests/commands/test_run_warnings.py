"""What a run warns of."""

import warnings

import pytest

from gradalign_cli.commands.run_warnings import warn_of_warm_up
from gradalign_cli.schedules.constant import constant
from gradalign_cli.schedules.cosine import cosine
from gradalign_cli.schedules.plateau import plateau

STEPS = {"task": 20, "run": 100}


@pytest.mark.parametrize(
    ("schedule", "span"),
    [(cosine(0.0, 20, "task"), "20 steps of a task"), (constant(100, "run"), "100 steps of a run")],
)
def test_a_warm_up_that_never_ends_is_told(schedule, span):
    with pytest.warns(UserWarning, match=f"no step has the full size.*the {span} end before"):
        warn_of_warm_up(schedule, STEPS)


def test_a_warm_up_that_ends_with_the_last_step_but_one_is_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for schedule in (
            cosine(0.0, 19, "task"),
            constant(99, "run"),
            plateau(0.1, 1, 2, 0.1),
            None,
        ):
            warn_of_warm_up(schedule, STEPS)
