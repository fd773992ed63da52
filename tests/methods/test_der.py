import torch
from torch.nn.functional import cross_entropy, mse_loss

from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.methods.der import der
from gradalign_cli.training.replica import new_learner
from tests.methods.given import setting
from tests.methods.small import network, some, some_params, value_of
from tests.runs import make_parts, make_replicas, steps_of_task


def test_the_objective_is_cross_entropy_and_the_distance_to_stored_logits():
    params, batch, old = some_params(), some(5), some(3, seed=1)
    method = der(0.7)
    value, calls = value_of(method, batch, (old,), params, method.init(setting(params, 2)))
    expected = cross_entropy(network(params, 0, batch).logits, batch.target)
    expected += 0.7 * mse_loss(network(params, 0, old).logits, old.stored_logits)
    torch.testing.assert_close(value, expected)
    assert calls == 2  # the running statistics see both batches


def test_only_logits_that_count_and_examples_that_are_there_are_compared():
    params, batch = some_params(), some(5)
    visible = torch.tensor([True, True, False, False]).expand(3, 4)
    old = some(3, seed=1, weight=[1, 1, 0], visible=visible)
    method = der(1.0)
    value, _ = value_of(method, batch, (old,), params, method.init(setting(params, 2)))
    expected = cross_entropy(network(params, 0, batch).logits, batch.target)
    logits = network(params, 0, old).logits[:2, :2]
    torch.testing.assert_close(value, expected + mse_loss(logits, old.stored_logits[:2, :2]))


def test_an_example_is_stored_with_the_logits_it_had_when_it_came(tiny):
    parts = make_parts(tiny, der(0.5), scenario="class", buffer=reservoir)
    replica = make_replicas(parts)[0]
    kept = {}
    learner = new_learner(parts, replica)
    for before, draw, _, after, _ in steps_of_task(parts, replica, learner, 0):
        x = (parts.benchmark.images[draw.rows] / 255).view(-1, *parts.benchmark.image_shape)
        logits = parts.model.apply(before.params, before.statistics, x, True).logits
        kept |= {int(row): value for row, value in zip(draw.rows, logits, strict=True)}
        for row, stored in zip(after.memory.rows, after.memory.stored_logits, strict=True):
            if row >= 0:
                torch.testing.assert_close(stored, kept[int(row)])
    assert (after.memory.rows >= 0).all()
