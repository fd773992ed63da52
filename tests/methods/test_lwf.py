from types import SimpleNamespace

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from gradalign_cli.methods.lwf import lwf
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value


def test_before_the_first_task_has_ended_it_is_fine_tuning():
    params, batch = make_params(), make_examples(5)
    method = lwf(1.0, 2.0)
    state = method.init(make_setup(params, 2, outputs=4))
    value, _ = objective_value(method, batch, (), params, state)
    logits = network(params, 0, batch).logits
    torch.testing.assert_close(value, cross_entropy(logits, batch.target))


def test_afterwards_the_old_networks_softmax_over_the_old_logits_is_distilled():
    params, old_params, batch = make_params(), make_params(1), make_examples(5)
    method = lwf(0.6, 2.0)
    state = method.init(make_setup(old_params, 2, outputs=4))
    state = state._replace(old_logit_mask=torch.tensor([1.0, 1.0, 0.0, 0.0]).double())
    value, _ = objective_value(method, batch, (), params, state)
    logits, old_logits = network(params, 0, batch).logits, network(old_params, 0, batch).logits
    target = softmax(old_logits[:, :2] / 2, 1)
    divergence = kl_div(log_softmax(logits[:, :2] / 2, 1), target, reduction="batchmean")
    entropy = -(target * target.log()).sum(1).mean()
    expected = cross_entropy(logits, batch.target) + 0.6 * (divergence + entropy)
    torch.testing.assert_close(value, expected)


def test_the_end_of_a_task_stores_the_network_and_marks_the_logits_of_the_task():
    params, task_logits = make_params(), torch.tensor([0.0, 1.0, 0.0, 0.0])
    method = lwf(1.0, 2.0)
    state = method.init(make_setup(0 * params, 2, outputs=4))
    state = method.end_task(state, params, SimpleNamespace(task_logits=task_logits))
    assert torch.equal(state.old_params, params)
    assert state.old_logit_mask.tolist() == [0, 1, 0, 0]
