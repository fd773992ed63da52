import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.methods.der import der
from gradalign_cli.methods.derpp import derpp
from gradalign_cli.training.replica import new_learner
from tests.methods.given import setting
from tests.methods.small import network, some, some_params, value_of
from tests.runs import make_parts, make_replicas, steps_of_task


def test_the_labels_of_the_second_memory_batch_are_added():
    params, batch, one, two = some_params(), some(5), some(3, seed=1), some(4, seed=2)
    first, both = der(0.3), derpp(0.3, 0.9)
    plain, _ = value_of(first, batch, (one,), params, first.init(setting(params, 2)))
    found, calls = value_of(both, batch, (one, two), params, both.init(setting(params, 2)))
    labels = cross_entropy(network(params, 0, two).logits, two.target)
    torch.testing.assert_close(found, plain + 0.9 * labels)
    assert calls == 3


def test_with_beta_zero_it_is_der():
    params, batch, one, two = some_params(), some(5), some(3, seed=1), some(4, seed=2)
    first, both = der(0.3), derpp(0.3, 0.0)
    plain, _ = value_of(first, batch, (one,), params, first.init(setting(params, 2)))
    found, _ = value_of(both, batch, (one, two), params, both.init(setting(params, 2)))
    torch.testing.assert_close(found, plain)


def test_the_two_memory_batches_are_drawn_independently(tiny):
    parts = make_parts(tiny, derpp(0.5, 0.5), memory_batch=3)
    replica = make_replicas(parts)[0]
    steps = steps_of_task(parts, replica, new_learner(parts, replica), 0)
    draws = [draw.replay for _, draw, *_ in steps]
    assert all(not torch.equal(one, two) for one, two in draws)
