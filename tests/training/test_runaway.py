import math

import torch

from gradalign_cli.step.trace import LossTrace, stack_traces
from gradalign_cli.training.replica_groups import train_replica_groups
from gradalign_cli.training.runaway import Runaway, RunawayWarner
from gradalign_cli.training.watcher import Moment
from tests.methods.catalogue import method
from tests.runs import eager, make_parts, make_replicas
from tests.training.test_replica_groups import PLAN

GUESSING = math.log(4)


def watched(*chunks, replicas=(0, 1)):
    """The watcher, and what it warned of, after the chunks of losses [S, R] of a task with four
    logits."""
    warned = []
    watcher, step = RunawayWarner(4, warned.append), 0
    watcher.begin_replica_group(replicas)
    for chunk in chunks:
        loss = torch.tensor(chunk)
        step += len(loss)
        nothing = (torch.ones(len(loss)), None, None, None)
        trace = stack_traces([LossTrace(value) for value in loss])
        assert not watcher.after_steps(Moment(1, step, 99, 99, trace, *nothing))
    return watcher, warned


def test_the_median_loss_of_a_chunk_tells_and_one_large_step_does_not():
    limit = 100 * GUESSING
    watcher, warned = watched(
        [[1.0, 2.0]], [[9 * limit, 0.1], [0.99 * limit, 0.1], [1.0, 0.1]], replicas=(5, 7)
    )
    assert watcher.record() == warned == []
    watcher, warned = watched(
        [[1.0, 2.0]], [[0.1, 9 * limit], [0.1, 1.5 * limit], [0.1, 1.0]], replicas=(5, 7)
    )
    (runaway,) = warned
    assert runaway[:3] == Runaway(7, 2, 4, 0.0)[:3]
    assert math.isclose(runaway.loss, 1.5 * limit, rel_tol=1e-6)
    assert watcher.record() == [runaway._asdict()]


def test_a_loss_that_is_large_from_the_first_step_of_the_task_is_the_method_s_own():
    large = 300 * GUESSING
    assert watched([[large, 0.1]], [[large, 0.1]])[1] == []
    assert watched([[0.1, large]], [[large, large]])[1][0].replica == 0


def test_only_the_first_is_warned_of_and_each_replica_is_recorded_once():
    watcher, warned = watched([[1.0, 1.0]], [[1.0, 500.0]], [[800.0, 600.0]], [[900.0, 700.0]])
    assert warned == [Runaway(1, 2, 2, 500.0)]
    assert watcher.record() == [
        Runaway(0, 2, 3, 800.0)._asdict(),
        Runaway(1, 2, 2, 500.0)._asdict(),
    ]


def test_a_penalty_that_is_too_strong_for_the_step_size_runs_away_and_a_weak_one_does_not(tiny):
    """Gradient descent on strength / 2 * F p^2 diverges where lr * strength * F > 2."""
    methods = [method("ewc", strength=strength) for strength in (1.0, 300.0)]
    parts = make_parts(tiny, methods[0], scenario="class", samples=20)
    replicas = make_replicas(parts, seeds=(0, 0), methods=methods)
    warned = []
    watcher = RunawayWarner(6, warned.append)
    outcome = train_replica_groups(parts, replicas, eager(), PLAN, [watcher], [[1], [0]])
    assert outcome.learners.params.isfinite().all()
    largest = outcome.learners.method_state.importance.amax(1)
    strengths = torch.tensor([1.0, 300.0])
    assert (0.1 * strengths * largest > 2).tolist() == [False, True]
    assert [runaway.replica for runaway in warned] == [1]
