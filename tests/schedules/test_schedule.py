"""Schedules by the number of a step: for replicas together, over every task or the whole run."""

import pytest
import torch

from gradalign_cli.commands.training_run import describe_workload
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.schedules.cosine import cosine
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.task_steps import prepare_task, steps_of_tasks
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train
from tests.schedules.pytorch import factors
from tests.schedules.test_plateau import recording_engine

PLAN = TrainingPlan(2, 5, 3, 1)  # two passes, a smaller last batch, chunks of several lengths


@pytest.mark.parametrize("name", ["agem", "joint"])
@pytest.mark.parametrize("over", ["task", "run"])
def test_every_step_of_every_replica_has_its_share_of_the_replicas_step_size(name, over, tiny):
    schedule = cosine(0.1, 4, over)
    parts = make_parts(tiny, method(name), samples=18)._replace(schedule=schedule)
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.1, 0.05))
    engine, lrs = recording_engine("lr")
    train(parts, replicas, engine, plan=PLAN)
    steps = steps_of_tasks(parts, replicas[0], PLAN)
    whole = factors(schedule, sum(steps))
    expected = whole if over == "run" else [f for count in steps for f in factors(schedule, count)]
    sizes = torch.cat(lrs)
    assert sizes[:, 0].tolist() == pytest.approx([0.1 * factor for factor in expected])
    assert sizes[:, 1].tolist() == pytest.approx([0.05 * factor for factor in expected])


@pytest.mark.parametrize("name", ["finetune", "joint"])
def test_the_steps_of_tasks_are_known_before_they_are_drawn(name, tiny):
    parts = make_parts(tiny, method(name), samples=17)
    (replica,) = make_replicas(parts)
    engine, _ = recording_engine("lr")
    drawn = [prepare_task(parts, [replica], engine, PLAN, task).steps for task in range(3)]
    assert steps_of_tasks(parts, replica, PLAN) == drawn


def test_replicas_train_together_and_no_example_is_held_out(tiny):
    parts = make_parts(tiny, method("agem"), samples=18)._replace(schedule=cosine(0.0, 0, "run"))
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.1, 0.05))
    assert replicas_at_once(parts, replicas[0], 1.0, torch.device("cpu")) > 1
    assert describe_workload(parts, replicas, PLAN).replicas == 2
    loop = train(parts, replicas, plan=PLAN)
    same(loop, train(parts, replicas, vmap(), plan=PLAN))
    plain = train(parts._replace(schedule=None), replicas, plan=PLAN)
    assert not torch.allclose(loop.learners.params, plain.learners.params, atol=1e-3)
