import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from gradalign_cli.methods.lwf import lwf
from tests.methods.given import setting
from tests.methods.small import network, some, some_params, value_of


def test_before_the_first_task_has_ended_it_is_fine_tuning():
    params, batch = some_params(), some(5)
    method = lwf(1.0, 2.0)
    value, _ = value_of(method, batch, (), params, method.init(setting(params, 2, outputs=4)))
    logits = network(params, 0, batch).logits
    torch.testing.assert_close(value, cross_entropy(logits, batch.target))


def test_then_the_old_answers_over_the_old_logits_are_kept():
    params, before, batch = some_params(), some_params(1), some(5)
    method = lwf(0.6, 2.0)
    state = method.init(setting(before, 2, outputs=4))
    state = state._replace(learned=torch.tensor([1.0, 1.0, 0.0, 0.0]).double())
    value, _ = value_of(method, batch, (), params, state)
    logits, old = network(params, 0, batch).logits, network(before, 0, batch).logits
    target = softmax(old[:, :2] / 2, 1)
    distilled = kl_div(log_softmax(logits[:, :2] / 2, 1), target, reduction="batchmean")
    entropy = -(target * target.log()).sum(1).mean()
    expected = cross_entropy(logits, batch.target) + 0.6 * (distilled + entropy)
    torch.testing.assert_close(value, expected)


def test_the_old_network_is_the_one_that_ended_the_task_and_its_logits_are_remembered():
    class Ended:
        used = torch.tensor([0.0, 1.0, 0.0, 0.0])

    params = some_params()
    method = lwf(1.0, 2.0)
    state = method.end_task(method.init(setting(0 * params, 2, outputs=4)), params, Ended)
    assert torch.equal(state.params, params)
    assert state.learned.tolist() == [0, 1, 0, 0]
