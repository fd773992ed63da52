import torch
from torch.nn.functional import cross_entropy, mse_loss

from gradalign_cli.buffers.reservoir import reservoir
from gradalign_cli.methods.der import der
from gradalign_cli.training.replica import new_learner
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value
from tests.runs import make_parts, make_replicas, steps_of_task


def test_the_objective_is_cross_entropy_and_the_distance_to_stored_logits():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = der(0.7)
    state = method.init(make_setup(params, 2))
    value, calls = objective_value(method, batch, (memory_batch,), params, state)
    expected = cross_entropy(network(params, 0, batch).logits, batch.target)
    logits = network(params, 0, memory_batch).logits
    expected += 0.7 * mse_loss(logits, memory_batch.stored_logits)
    torch.testing.assert_close(value, expected)
    assert calls == 2  # the statistics pass through the network with each of the two batches


def test_only_visible_logits_of_valid_examples_are_compared():
    params, batch = make_params(), make_examples(5)
    visible = torch.tensor([True, True, False, False]).expand(3, 4)
    memory_batch = make_examples(3, seed=1, valid=[1, 1, 0], visible_logit_mask=visible)
    method = der(1.0)
    state = method.init(make_setup(params, 2))
    value, _ = objective_value(method, batch, (memory_batch,), params, state)
    expected = cross_entropy(network(params, 0, batch).logits, batch.target)
    logits = network(params, 0, memory_batch).logits[:2, :2]
    expected += mse_loss(logits, memory_batch.stored_logits[:2, :2])
    torch.testing.assert_close(value, expected)


def test_an_example_is_stored_with_the_logits_it_had_on_arrival(tiny):
    parts = make_parts(tiny, der(0.5), scenario="class", buffer=reservoir)
    replica = make_replicas(parts)[0]
    logits_on_arrival = {}
    learner = new_learner(parts, replica)
    for before, draw, _, after, _ in steps_of_task(parts, replica, learner, 0):
        x = (parts.benchmark.images[draw.rows] / 255).view(-1, *parts.benchmark.image_shape)
        logits = parts.model.apply(before.params, before.statistics, x, True).logits
        logits_on_arrival |= {int(row): z for row, z in zip(draw.rows, logits, strict=True)}
        for row, stored in zip(after.memory.rows, after.memory.stored_logits, strict=True):
            if row >= 0:
                torch.testing.assert_close(stored, logits_on_arrival[int(row)])
    assert (after.memory.rows >= 0).all()
