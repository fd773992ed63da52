"""Which steps of a task are measured, and what it counts as over."""

import pytest
import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.graph import graph
from gradalign_cli.methods.agem import agem
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.task_steps import prepare_task
from tests.runs import make_parts, make_replicas, train


@pytest.mark.parametrize("every", [1, 2, 5])
def test_one_step_of_every_so_many_is_measured(every, tiny):
    parts = make_parts(tiny, agem(), samples=20)
    task_steps = prepare_task(parts, make_replicas(parts), eager(), TrainingPlan(1, 5, every, 0), 1)
    measured, *plain = task_steps.step_cycle
    assert len(plain) == min(every, task_steps.steps) - 1
    assert len(set(plain)) <= 1
    assert measured not in plain


def test_the_steps_of_a_task_are_those_of_its_passes_the_last_of_each_smaller(tiny):
    parts = make_parts(tiny, agem(), samples=20)
    task_steps = prepare_task(parts, make_replicas(parts), eager(), TrainingPlan(3, 6, 1, 0), 1)
    assert task_steps.steps_per_pass == 4
    assert task_steps.steps == 12
    assert task_steps.past_tasks == 1


@pytest.mark.parametrize("make_engine", [eager, graph])
@pytest.mark.parametrize(("lca_batches", "continual_every"), [(0, 0), (3, 0), (4, 5)])
def test_measured_steps_are_evenly_spaced_in_a_task_however_it_is_cut_into_chunks(
    make_engine, lca_batches, continual_every, tiny
):
    parts = make_parts(tiny, agem(), samples=20)
    moments = []

    class Moments:
        def after_steps(self, moment):
            moments.append(moment)

        def after_test(self, ended_tasks, accuracy):
            pass

    plan = TrainingPlan(2, 2, 4, lca_batches, continual_every, 5)
    train(parts, make_replicas(parts), make_engine(), [Moments()], plan)
    measured = torch.cat([moment.measured_step_mask for moment in moments]).tolist()
    assert measured == [step % 4 == 0 for step in range(len(measured) // 3)] * 3
    cosines = torch.cat([moment.trace.cosine[:, 0] for moment in moments])
    steps = len(measured) // 3
    assert (~cosines.isnan()).tolist() == [False] * steps + measured[steps:]
