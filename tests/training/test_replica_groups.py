"""Replicas that cannot train together give what they give alone."""

from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from gradalign_cli.buffers.gss_greedy import gss_greedy
from gradalign_cli.engines.eager import eager
from gradalign_cli.errors import UserError
from gradalign_cli.results.display import Display
from gradalign_cli.results.remaining_time import RemainingTime, work_of
from gradalign_cli.results.run_folder import RunFolder
from gradalign_cli.training import replica_groups as training
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica_groups import replica_groups, train_replica_groups
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train

CPU = torch.device("cpu")
PLAN = TrainingPlan(1, 5, 1, 1)


def in_rounds(parts, replicas, todo, folder):
    """The outcome of training round by round, and what was said and written."""
    console = Console(record=True, width=200)
    watchers = [
        RunFolder(folder),
        Display(console, RemainingTime(work_of(parts, replicas[0], PLAN), len(replicas))),
    ]
    outcome = train_replica_groups(parts, replicas, eager(), PLAN, watchers, todo)
    return outcome, console.export_text(), (folder / "alignment.csv").read_text()


def test_groups_hold_equal_task_sizes_and_no_more_than_fit(tiny):
    parts = make_parts(tiny, method("agem"))
    replicas = make_replicas(parts, seeds=range(5))
    shorter = replicas[1].stream
    shorter = shorter._replace(train_rows=(shorter.train_rows[0][:-1], *shorter.train_rows[1:]))
    replicas[1] = replicas[1]._replace(stream=shorter)
    assert replica_groups(replicas, 3) == [[0, 2, 3], [4], [1]]
    assert replica_groups(replicas, 10) == [[0, 2, 3, 4], [1]]


def test_groups_in_any_order_are_one_run(tiny, tmp_path):
    parts = make_parts(tiny, method("agem"), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1, 2), lrs=(0.05,))
    outcome, _, written = in_rounds(parts, replicas, [[2, 0], [1]], tmp_path)
    together = train(parts, replicas, plan=PLAN)
    same(outcome, together, tolerance=0)
    np.testing.assert_array_equal(outcome.learning_curves, together.learning_curves)
    assert outcome.steps == together.steps
    assert {line.split(",")[0] for line in written.splitlines()[1:]} == {"0", "1", "2"}


def test_where_memory_runs_out_groups_become_smaller_and_nothing_is_written_twice(
    tiny, tmp_path, monkeypatch
):
    parts = make_parts(tiny, method("agem"), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1, 2), lrs=(0.05,))
    run = training.run

    def scarce(parts, replicas, engine, plan, *others):
        def carry(cycle, learners, draws, views):
            if len(replicas) > 1 and int(draws.tasks.max()) > 0:  # a task is written by then
                raise torch.OutOfMemoryError
            return engine.run_steps(cycle, learners, draws, views)

        return run(parts, replicas, engine._replace(run_steps=carry), plan, *others)

    with monkeypatch.context() as patched:
        patched.setattr(training, "run", scarce)
        outcome, said, written = in_rounds(parts, replicas, [[0, 1, 2]], tmp_path)
    same(outcome, train(parts, replicas, plan=PLAN), tolerance=0)
    assert "out of memory with 3 replicas, going on with 2 at once" in said
    lines = [line.split(",")[:3] for line in written.splitlines()[1:]]
    assert len(lines) == len({tuple(line) for line in lines})


def test_one_replica_without_memory_is_the_users_to_mend(tiny, tmp_path, monkeypatch):
    def scarce(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training, "run", scarce)
    parts = make_parts(tiny, method("agem"))
    with pytest.raises(UserError, match="too little memory for one replica"):
        in_rounds(parts, make_replicas(parts), [[0]], tmp_path)


def test_a_budget_holds_replicas_in_proportion_and_at_least_one(tiny):
    parts = make_parts(tiny, method("gem"))
    (replica,) = make_replicas(parts)
    few, many = (replicas_at_once(parts, replica, gib, CPU) for gib in (1e-3, 1e-2))
    assert few > 1
    assert many == pytest.approx(10 * few, rel=0.1)
    assert replicas_at_once(parts, replica, 1e-9, CPU) == 1
    with pytest.raises(UserError, match="`memory_budget` must be positive or null, found 0"):
        replicas_at_once(parts, replica, 0, CPU)


def test_gradients_that_a_buffer_asks_for_take_room(tiny):
    found = []
    for compared in (1, 64):
        buffer = partial(gss_greedy, compared_examples=compared, admission="example")
        parts = make_parts(tiny, method("finetune"), buffer=buffer)
        found.append(replicas_at_once(parts, make_replicas(parts)[0], 1e-2, CPU))
    assert found[0] > 1.5 * found[1]
