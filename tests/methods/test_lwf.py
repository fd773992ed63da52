from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from gradalign_cli.methods.lwf import lwf
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value


def test_before_the_first_task_has_ended_it_is_fine_tuning():
    params, batch = make_params(), make_examples(5)
    method = lwf(1.0, 2.0, "per_task")
    state = method.init(make_setup(params, 2, outputs=4))
    value, _ = objective_value(method, batch, (), params, state)
    logits = network(params, 0, batch).logits
    torch.testing.assert_close(value, cross_entropy(logits, batch.target))


def distilled(logits, old_logits, columns):
    """The cross-entropy between two softmaxes over some columns, at temperature 2."""
    target = softmax(old_logits[:, columns] / 2, 1)
    divergence = kl_div(log_softmax(logits[:, columns] / 2, 1), target, reduction="batchmean")
    return divergence - (target * target.log()).sum(1).mean()


@pytest.mark.parametrize(
    ("form", "groups"), [("per_task", ([0, 1], [2, 3])), ("joint", ([0, 1, 2, 3],))]
)
def test_afterwards_the_old_networks_softmaxes_are_distilled_for_each_task_or_jointly(form, groups):
    params, old_params, batch = make_params(), make_params(1), make_examples(5)
    method = lwf(0.6, 2.0, form)
    state = method.init(make_setup(old_params, 3, outputs=4))
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0] * 4]).double()
    state = state._replace(old_logit_masks=masks)
    value, _ = objective_value(method, batch, (), params, state)
    logits, old_logits = network(params, 0, batch).logits, network(old_params, 0, batch).logits
    expected = sum(distilled(logits, old_logits, columns) for columns in groups)
    torch.testing.assert_close(value, cross_entropy(logits, batch.target) + 0.6 * expected)


def test_the_end_of_a_task_stores_the_network_and_marks_the_logits_of_the_task():
    params, task_logit_mask = make_params(), torch.tensor([0.0, 1.0, 0.0, 0.0])
    method = lwf(1.0, 2.0, "per_task")
    state = method.init(make_setup(0 * params, 2, outputs=4))
    state = method.end_task(state, params, SimpleNamespace(task_logit_mask=task_logit_mask, task=1))
    assert torch.equal(state.old_params, params)
    assert state.old_logit_masks.tolist() == [[0] * 4, [0, 1, 0, 0]]
