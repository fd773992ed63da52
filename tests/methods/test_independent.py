import numpy as np
import torch

from gradalign_cli.engines.vmap import vmap
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.independent import independent
from tests.runs import make_parts, make_replicas, same, train


def test_a_task_keeps_the_accuracy_that_it_has_at_its_end(tiny):
    parts = make_parts(tiny, independent(False))
    accuracy = train(parts, make_replicas(parts)).accuracy[0]
    for task in range(3):
        assert (accuracy[task + 1 :, task] == accuracy[task + 1, task]).all()
    plain_parts = make_parts(tiny, finetune())
    plain_accuracy = train(plain_parts, make_replicas(plain_parts)).accuracy[0]
    np.testing.assert_array_equal(accuracy[:2], plain_accuracy[:2])
    assert not np.array_equal(accuracy[-1], plain_accuracy[-1])


def test_a_task_starts_from_the_initial_parameters_or_from_those_of_the_last_task(tiny):
    learners = {}
    for inherit in (False, True):
        parts = make_parts(tiny, independent(inherit))
        learners[inherit] = train(parts, make_replicas(parts)).learners
    plain_parts = make_parts(tiny, finetune())
    finetuned = train(plain_parts, make_replicas(plain_parts)).learners.params
    inheriting, fresh = learners[True], learners[False]
    torch.testing.assert_close(inheriting.params, finetuned)
    torch.testing.assert_close(inheriting.method_state.task_params[0, 2], finetuned[0])
    torch.testing.assert_close(fresh.params, fresh.method_state.initial_params)
    first_task = fresh.method_state.task_params[0, 0]
    torch.testing.assert_close(first_task, inheriting.method_state.task_params[0, 0])
    assert not torch.allclose(fresh.method_state.task_params[0, 2], finetuned[0])


def test_vmap_over_replicas_equals_a_loop_over_them(tiny):
    parts = make_parts(tiny, independent(False))
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(parts, replicas, vmap()))
