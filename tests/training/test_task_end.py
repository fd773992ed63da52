"""What a method is told at the end of a task."""

import pytest
import torch

from gradalign_cli.methods.er import er
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.streams.blurry import blurry
from gradalign_cli.training.replica import new_learner
from gradalign_cli.training.task_end import ended_task, make_probe, task_rows
from tests.runs import make_parts, make_replicas
from tests.step.test_step import mean_gradient

TASK = 1


@pytest.fixture
def parts(tiny):
    return make_parts(tiny, er(), samples=20)


@pytest.fixture
def replica(parts):
    return make_replicas(parts)[0]


def probe_of_task(parts, replica, learner):
    rows = replica.stream.train_rows[TASK]
    return make_probe(parts, learner, replica.stream.view, rows, TASK)


def test_the_rows_of_a_task_are_those_of_its_part_of_the_stream_in_another_order(parts, replica):
    rows, stream_rows = task_rows(replica, TASK), replica.stream.train_rows[TASK]
    assert rows.tolist() != stream_rows.tolist()
    assert sorted(rows.tolist()) == sorted(stream_rows.tolist())


def test_the_rows_of_a_task_leave_out_what_a_blurry_part_holds_of_others(parts):
    parts = parts._replace(benchmark=blurry(parts.benchmark, 0.5))
    stream = parts.benchmark.make_stream(0)
    expected = stream.train_rows[TASK][stream.train_tasks[TASK] == TASK]
    rows = task_rows(make_replicas(parts)[0], TASK)
    assert sorted(rows.tolist()) == sorted(expected.tolist())
    assert len(rows) == 10


def test_a_mean_gradient_is_that_of_plain_autograd_and_the_mean_of_sample_gradients(parts, replica):
    learner = new_learner(parts, replica)
    probe = probe_of_task(parts, replica, learner)
    tasks = torch.full_like(probe.rows, TASK)
    expected = mean_gradient(parts, replica.stream.view, learner.params, probe.rows, tasks)
    gradient = probe.mean_gradient(cross_entropy, probe.rows)
    torch.testing.assert_close(gradient, expected)
    sample_gradients = probe.sample_gradients(cross_entropy, probe.rows)
    torch.testing.assert_close(sample_gradients.mean(0), expected)


def test_a_memory_gradient_is_of_the_slots_as_their_own_tasks_see_them(parts, replica):
    learner = new_learner(parts, replica)
    rows = torch.cat([torch.tensor([0]), *replica.stream.train_rows[:2]])[::7]
    tasks = torch.tensor([0] * 21 + [1] * 20)[::7]
    memory = learner.memory
    memory = memory._replace(
        rows=memory.rows.index_copy(0, torch.arange(len(rows)), rows),
        tasks=memory.tasks.index_copy(0, torch.arange(len(rows)), tasks),
    )
    probe = probe_of_task(parts, replica, learner._replace(memory=memory))
    assert probe.filled_slot_indices.tolist() == list(range(len(rows)))
    expected = mean_gradient(parts, replica.stream.view, learner.params, rows, tasks)
    gradient = probe.memory_gradient(learner.params, probe.filled_slot_indices)
    torch.testing.assert_close(gradient, expected)


def test_at_the_end_of_a_task_the_network_is_as_it_is_in_tests(parts, replica):
    modes = []

    def apply(params, statistics, images, training, noise_keys):
        modes.append(training)
        return parts.model.apply(params, statistics, images, training, noise_keys)

    learner, view = new_learner(parts, replica), replica.stream.view
    watched = parts._replace(
        model=parts.model._replace(apply=apply), buffer=parts.buffer._replace(needs_features=True)
    )
    probe = probe_of_task(watched, replica, learner)
    probe.mean_gradient(cross_entropy, probe.rows)
    ended_task(watched, learner, view, probe.rows, TASK)
    assert modes == [False, False]


def test_the_logits_of_a_task_are_those_of_its_classes(parts, replica):
    probe = probe_of_task(parts, replica, new_learner(parts, replica))
    classes = parts.benchmark.labels[probe.rows].unique()
    assert probe.task_logit_mask.nonzero()[:, 0].tolist() == classes.tolist()
