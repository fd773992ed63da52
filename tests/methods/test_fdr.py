import math

import torch
from torch.nn.functional import cross_entropy, softmax

from gradalign_cli.buffers.uniform import uniform
from gradalign_cli.methods.fdr import fdr, mean_function_distance
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after


def test_the_objective_is_cross_entropy_and_the_distance_to_the_stored_softmax():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = fdr(0.7)
    state = method.init(make_setup(params, 2))
    value, calls = objective_value(method, batch, (memory_batch,), params, state)
    change = softmax(network(params, 0, memory_batch).logits, 1)
    change = change - softmax(memory_batch.stored_logits, 1)
    expected = cross_entropy(network(params, 0, batch).logits, batch.target)
    torch.testing.assert_close(value, expected + 0.7 * change.square().sum(1).sqrt().mean())
    assert calls == 2  # the statistics pass through the network with each of the two batches


def test_opposite_certain_answers_are_the_square_root_of_two_apart_and_only_valid_ones_count():
    examples = make_examples(2, valid=[1, 0])
    logits = torch.tensor([[99.0, 0.0, 0.0, 0.0], [0.0] * 4]).double()
    stored = torch.tensor([[0.0, 99.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]]).double()
    distance = mean_function_distance(logits, examples._replace(stored_logits=stored))
    torch.testing.assert_close(distance, torch.tensor(math.sqrt(2)).double())


def test_the_softmax_is_over_the_visible_logits_so_that_others_and_a_common_shift_do_not_matter():
    visible = torch.tensor([True, True, False, False]).expand(3, 4)
    examples = make_examples(3, visible_logit_mask=visible)
    shift = torch.tensor([2.0, 2.0, 5.0, -1.0])
    distance = mean_function_distance(examples.stored_logits + shift, examples)
    torch.testing.assert_close(distance, torch.tensor(0.0).double())


def test_where_nothing_has_changed_the_distance_has_no_gradient():
    examples = make_examples(3)
    logits = examples.stored_logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mean_function_distance(logits, examples), logits)
    assert gradient.tolist() == [[0.0] * 4] * 3


def test_an_example_is_stored_with_the_logits_it_had_when_its_task_ended(tiny):
    def make_buffer(*arguments):
        return uniform(*arguments, shrinks=True)

    parts = make_parts(tiny, fdr(0.5), scenario="class", buffer=make_buffer)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows = learner.memory.rows
    assert (rows >= 0).all()
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)
    logits = parts.model.apply(learner.params, learner.statistics, x, False).logits
    torch.testing.assert_close(learner.memory.stored_logits, logits)
