"""Tests of earlier tasks between the steps."""

import numpy as np
import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.methods.agem import agem
from gradalign_cli.results.run_folder import RunFolder
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica_groups import replica_groups, train_replica_groups
from tests.runs import make_parts, make_replicas, train


def both(tiny, samples=1000):
    """A run without such tests, and with one every three steps."""
    parts = make_parts(tiny, agem(), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1))
    plain = train(parts, replicas, plan=TrainingPlan(2, 5, 2, 2))
    return plain, train(parts, replicas, plan=TrainingPlan(2, 5, 2, 2, 3, samples))


def test_looking_between_the_steps_changes_nothing(tiny):
    plain, looked = both(tiny)
    assert torch.equal(plain.learners.params, looked.learners.params)
    assert np.array_equal(plain.accuracy, looked.accuracy)
    assert np.array_equal(plain.learning_curves, looked.learning_curves)
    assert plain.continual_accuracy is None


def test_every_so_many_steps_and_at_its_end_a_task_is_looked_at(tiny):
    _, looked = both(tiny)
    steps = 2 * 20 // 5
    expected = [[k, s] for k in range(3) for s in (3, 6, steps)]
    assert [moments.tolist() for moments in looked.continual_moments] == [expected] * 2
    for k in range(3):
        row = np.stack(looked.continual_accuracy)[:, 3 * k + 2]
        np.testing.assert_allclose(row[:, : k + 1], looked.accuracy[:, k + 1, : k + 1])
        assert np.isnan(row[:, k + 1 :]).all()


def test_a_look_is_at_so_many_samples(tiny):
    _, looked = both(tiny, samples=4)
    accuracy = np.stack(looked.continual_accuracy)
    seen = accuracy[~np.isnan(accuracy)]
    assert set(np.unique(4 * seen)) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_the_file_has_a_line_for_each_look(tmp_path):
    accuracy = np.array([[[0.5, np.nan], [0.25, 1.0]]])
    RunFolder(tmp_path).write_continual_csv(list(accuracy), [np.array([[0, 3], [1, 3]])])
    assert (tmp_path / "continual.csv").read_text().splitlines() == [
        "replica,task,step,task_1,task_2",
        "0,1,3,0.5,",
        "0,2,3,0.25,1",
    ]


def test_replicas_with_tasks_of_different_lengths_have_moments_of_their_own(tiny, tmp_path):
    """Whatever round a replica trains in, its tests come when they come if it trains alone."""
    parts = make_parts(tiny, agem())
    replicas = make_replicas(parts, seeds=(0, 1, 2))
    rows = replicas[1].stream.train_rows
    stream = replicas[1].stream._replace(train_rows=(rows[0][:13], *rows[1:]))
    replicas[1] = replicas[1]._replace(stream=stream)
    plan = TrainingPlan(2, 5, 2, 2, 3, 10)
    together = train_replica_groups(
        parts, replicas, eager(), plan, [RunFolder(tmp_path)], replica_groups(replicas, 3)
    )
    for number, replica in enumerate(replicas):
        alone = train(parts, [replica], plan=plan)
        np.testing.assert_array_equal(
            together.continual_moments[number], alone.continual_moments[0]
        )
        np.testing.assert_array_equal(
            together.continual_accuracy[number], alone.continual_accuracy[0]
        )
    lengths = {len(moments) for moments in together.continual_moments}
    assert len(lengths) == 2
