"""Tests of earlier tasks between the steps."""

import numpy as np
import torch

from gradalign_cli.methods.agem import agem
from gradalign_cli.results.run_folder import RunFolder
from gradalign_cli.training.plan import Plan
from tests.runs import make_parts, make_replicas, train


def both(tiny, samples=1000):
    """A run without such tests, and with one every three steps."""
    parts = make_parts(tiny, agem(), samples=20)
    replicas = make_replicas(parts, seeds=(0, 1))
    plain = train(parts, replicas, plan=Plan(2, 5, 2, 2))
    return plain, train(parts, replicas, plan=Plan(2, 5, 2, 2, 3, samples))


def test_looking_between_the_steps_changes_nothing(tiny):
    plain, looked = both(tiny)
    assert torch.equal(plain.learners.params, looked.learners.params)
    assert np.array_equal(plain.accuracy, looked.accuracy)
    assert np.array_equal(plain.learning_curves, looked.learning_curves)
    assert plain.continual_accuracy is None


def test_every_so_many_steps_and_at_its_end_a_task_is_looked_at(tiny):
    _, looked = both(tiny)
    steps = 2 * 20 // 5
    assert looked.continual_moments.tolist() == [[k, s] for k in range(3) for s in (3, 6, steps)]
    for k in range(3):
        row = looked.continual_accuracy[:, 3 * k + 2]
        np.testing.assert_allclose(row[:, : k + 1], looked.accuracy[:, k + 1, : k + 1])
        assert np.isnan(row[:, k + 1 :]).all()


def test_a_look_is_at_so_many_samples(tiny):
    _, looked = both(tiny, samples=4)
    seen = looked.continual_accuracy[~np.isnan(looked.continual_accuracy)]
    assert set(np.unique(4 * seen)) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_the_file_has_a_line_for_each_look(tmp_path):
    accuracy = np.array([[[0.5, np.nan], [0.25, 1.0]]])
    RunFolder(tmp_path).write_continual(accuracy, np.array([[0, 3], [1, 3]]))
    assert (tmp_path / "continual.csv").read_text().splitlines() == [
        "replica,task,step,task_1,task_2",
        "0,1,3,0.5,",
        "0,2,3,0.25,1",
    ]
