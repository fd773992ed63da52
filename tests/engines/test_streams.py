"""A CPU thread for each replica gives what a loop over the replicas gives."""

import pytest

from gradalign_cli.engines.streams import streams
from gradalign_cli.training.plan import TrainingPlan
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train


@pytest.mark.parametrize("name", ["agem", "gem", "derpp"])
def test_threads_give_what_a_loop_gives(name, tiny):
    parts = make_parts(tiny, method(name), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1, 2), lrs=(0.05,))
    plan = TrainingPlan(1, 5, 2, 1)
    same(
        train(parts, replicas, plan=plan), train(parts, replicas, streams(), plan=plan), tolerance=0
    )
