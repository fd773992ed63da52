import numpy as np
import pytest
import torch

from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError
from gradalign_cli.methods.agem import agem
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.independent import independent
from tests.runs import make_parts, make_replicas, same, train


def test_a_task_is_as_if_it_were_the_only_one_and_keeps_its_network(tiny):
    parts = make_parts(tiny, independent(False))
    (replica,) = make_replicas(parts)
    R = train(parts, [replica]).accuracy[0]
    for task in range(3):
        assert (R[task + 1 :, task] == R[task + 1, task]).all()
    alone = make_parts(tiny, finetune())
    first = train(alone, make_replicas(alone)).accuracy[0]
    np.testing.assert_array_equal(R[:2], first[:2])
    assert not np.array_equal(R[-1], first[-1])


def test_every_task_starts_from_the_first_network_or_from_the_last_tasks(tiny):
    outcomes = {}
    for inherit in (False, True):
        parts = make_parts(tiny, independent(inherit))
        outcomes[inherit] = train(parts, make_replicas(parts)).learners
    plain = make_parts(tiny, finetune())
    tuned = train(plain, make_replicas(plain)).learners.params
    inherited, fresh = outcomes[True], outcomes[False]
    torch.testing.assert_close(inherited.params, tuned)
    torch.testing.assert_close(inherited.method.learned[0, 2], tuned[0])
    torch.testing.assert_close(fresh.params, fresh.method.first)
    torch.testing.assert_close(fresh.method.learned[0, 0], inherited.method.learned[0, 0])
    assert not torch.allclose(fresh.method.learned[0, 2], tuned[0])


def test_replicas_keep_their_own(tiny):
    parts = make_parts(tiny, independent(False))
    replicas = make_replicas(parts, seeds=(0, 1), lrs=(0.05,))
    same(train(parts, replicas), train(parts, replicas, vmap()))


def test_it_is_no_loss_that_an_alignment_could_follow():
    with pytest.raises(UserError, match="`objective` must be a method that changes the loss"):
        combine(agem(), independent(False))
