from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from gradalign_cli.errors import UserError
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.methods.lwf import lwf
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.training.task_begin import begin_task
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value
from tests.runs import make_parts, make_replicas, normalised, small
from tests.step.test_step import learner_after


def test_before_the_first_task_has_ended_it_is_fine_tuning():
    params, batch = make_params(), make_examples(5)
    method = lwf(1.0, 2.0, "per_task", 0, 0.1, 10)
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
    method = lwf(0.6, 2.0, form, 0, 0.1, 10)
    state = method.init(make_setup(old_params, 3, outputs=4))
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0] * 4]).double()
    state = state._replace(old_logit_masks=masks)
    value, _ = objective_value(method, batch, (), params, state)
    logits, old_logits = network(params, 0, batch).logits, network(old_params, 0, batch).logits
    expected = sum(distilled(logits, old_logits, columns) for columns in groups)
    torch.testing.assert_close(value, cross_entropy(logits, batch.target) + 0.6 * expected)


def test_the_end_of_a_task_stores_the_network_and_marks_the_logits_of_the_task():
    params, task_logit_mask = make_params(), torch.tensor([0.0, 1.0, 0.0, 0.0])
    method = lwf(1.0, 2.0, "per_task", 0, 0.1, 10)
    state = method.init(make_setup(0 * params, 2, outputs=4))
    state = method.end_task(state, params, SimpleNamespace(task_logit_mask=task_logit_mask, task=1))
    assert torch.equal(state.old_params, params)
    assert state.old_logit_masks.tolist() == [[0] * 4, [0, 1, 0, 0]]


def warmed_up_learners(tiny, scenario, passes, batch_size=1000, model=small):
    """Before and after the warm-up of the second task, and its parts and replica."""
    method = lwf(1.0, 2.0, "joint", passes, 0.5, batch_size)
    parts = make_parts(tiny, method, scenario=scenario, model=model)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    started = begin_task(parts, [replica], tree_stack([learner]), 1)
    return learner, tree_index(started, 0), parts, replica


@pytest.mark.parametrize("model", [small, normalised])
def test_the_warm_up_is_gradient_descent_of_the_new_logits_on_fixed_features(model, tiny):
    learner, started, parts, replica = warmed_up_learners(tiny, "class", passes=3, model=model)
    last, rows = last_layer(parts.model.layers, 6), replica.stream.train_rows[1]
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)
    new, target = [2, 3], parts.benchmark.labels[rows] - 2
    head = learner.params[last.place].clone()
    for _ in range(3):
        leaf = head.clone().requires_grad_()
        params = last.replace_in(learner.params, leaf)
        logits = parts.model.apply(params, learner.statistics, x, False).logits[:, new]
        head = head - 0.5 * torch.autograd.grad(cross_entropy(logits, target), leaf)[0]
    torch.testing.assert_close(started.params, last.replace_in(learner.params, head))
    assert not torch.equal(head, learner.params[last.place])


def test_the_warm_up_leaves_the_old_logits_as_they_are(tiny):
    learner, started, parts, replica = warmed_up_learners(tiny, "class", passes=2, batch_size=4)
    rows = replica.stream.train_rows[1]
    x = (parts.benchmark.images[rows] / 255).view(-1, *parts.benchmark.image_shape)
    before, after = (
        parts.model.apply(each.params, each.statistics, x, False).logits
        for each in (learner, started)
    )
    assert torch.equal(before[:, [0, 1, 4, 5]], after[:, [0, 1, 4, 5]])
    assert not torch.equal(before[:, [2, 3]], after[:, [2, 3]])


@pytest.mark.parametrize(("scenario", "passes"), [("class", 0), ("domain", 2)])
def test_there_is_no_warm_up_without_passes_or_new_logits(scenario, passes, tiny):
    learner, started, _, _ = warmed_up_learners(tiny, scenario, passes)
    assert torch.equal(learner.params, started.params)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((-1, 0.1, 10), "`method.warm_up_passes` must be non-negative, found -1"),
        ((1, -0.1, 10), "`method.warm_up_lr` must be non-negative, found -0.1"),
        ((1, 0.1, 0), "`method.warm_up_batch_size` must be positive, found 0"),
    ],
)
def test_wrong_values_of_the_warm_up_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        lwf(1.0, 2.0, "joint", *settings)
