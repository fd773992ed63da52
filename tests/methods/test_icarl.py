import pytest
import torch
from torch.nn.functional import binary_cross_entropy, normalize, one_hot

from gradalign_cli.buffers.herding import herding
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.icarl import head_of_means, icarl, logit_targets
from gradalign_cli.methods.last_layer import last_layer
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.task_begin import begin_task
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, network, objective_value
from tests.runs import make_parts, make_replicas, normalised, small, train
from tests.step.test_step import learner_after

HEAD = Layer(12, 4, False)


def make_state(old_mask, task_mask, ratio, old_params):
    """The state of a task with these targets, after ended tasks with the other ones."""
    state = icarl().init(make_setup(old_params, 3, (HEAD,), outputs=4))
    masks = (torch.tensor(mask).double() for mask in (old_mask, task_mask))
    ratio = torch.tensor(ratio).double()
    fields = zip(("old_logit_mask", "task_logit_mask"), masks, strict=True)
    return state._replace(exemplars_per_task_example=ratio, **dict(fields))


def test_the_loss_is_that_of_the_examples_of_the_task_and_all_exemplars_together():
    """Where batches are as large as what they are drawn from, it is the mean over the union."""
    params, old_params = make_params(), make_params(1)
    batch, exemplars = make_examples(6), make_examples(3, seed=1)
    state = make_state([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], 3 / 6, old_params)
    value, calls = objective_value(icarl(), batch, (exemplars,), params, state)
    losses = []
    for examples in (batch, exemplars):
        answers = torch.sigmoid(network(params, 0, examples).logits)[:, :3]
        old_answers = torch.sigmoid(network(old_params, 0, examples).logits)[:, :2]
        labels = one_hot(examples.target, 4)[:, 2:3].double()
        targets = torch.cat([old_answers, labels], 1)
        losses.append(binary_cross_entropy(answers, targets, reduction="none").mean(1))
    torch.testing.assert_close(value, torch.cat(losses).mean())
    assert calls == 1


def test_in_the_first_task_it_is_the_binary_cross_entropy_of_its_labels():
    params, batch, padding = make_params(), make_examples(6), make_examples(2, valid=[0, 0])
    state = icarl().init(make_setup(make_params(1), 2, (HEAD,), outputs=4))
    value, _ = objective_value(icarl(), batch, (padding,), params, state)
    answers = torch.sigmoid(network(params, 0, batch).logits)
    expected = binary_cross_entropy(answers, one_hot(batch.target, 4).double())
    torch.testing.assert_close(value, expected)


def test_a_class_of_the_current_task_has_labels_though_an_ended_task_had_it_too():
    target, old_logits = torch.tensor([0, 1]), torch.zeros(2, 3)
    masks = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 1.0])
    assert logit_targets(target, old_logits, *masks).tolist() == [[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]]


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_largest_logit_is_that_of_the_nearest_class_mean(has_bias):
    source = torch.Generator().manual_seed(0)
    features = torch.rand(30, 5, generator=source).double()
    target, x = torch.arange(30) % 3, torch.rand(50, 5, generator=source).double()
    head = head_of_means(features, target, 4, Layer(20 + 4 * has_bias, 4, has_bias))
    W, biases = head[:20].view(4, 5), head[20:] if has_bias else torch.zeros(4)
    logits = x @ W.T + biases
    means = torch.stack([normalize(features[target == c], dim=1).mean(0) for c in range(3)])
    nearest = torch.cdist(normalize(x, dim=1), normalize(means, dim=1)).argmin(1)
    assert logits.argmax(1).tolist() == nearest.tolist()
    assert nearest.unique().tolist() == [0, 1, 2]


def make_shrinking(*arguments):
    """The paper's buffer."""
    return herding(*arguments, shrinks=True)


@pytest.mark.parametrize("model", [small, normalised])
def test_a_task_is_tested_by_means_when_it_has_ended_and_by_logits_after_the_next_step(model, tiny):
    parts = make_parts(tiny, icarl(), scenario="class", buffer=make_shrinking, model=model)
    learner = learner_after(parts, make_replicas(parts)[0], 2)
    state, (layer, place) = learner.method_state, last_layer(parts.model.layers, 6)
    tested = parts.method.test_params(state, learner.params, 0, parts.model.layers)
    x = (parts.benchmark.images[learner.memory.rows] / 255).view(-1, *parts.benchmark.image_shape)
    features = parts.model.apply(learner.params, learner.statistics, x, False).features
    target = parts.benchmark.labels[learner.memory.rows]
    torch.testing.assert_close(tested[place], head_of_means(features, target, 6, layer))
    tested[place] = learner.params[place]
    assert torch.equal(tested, learner.params)
    state = parts.method.after_step(state, learner.params, learner.params, learner.params)
    tested = parts.method.test_params(state, learner.params, 0, parts.model.layers)
    assert torch.equal(tested, learner.params)


def test_a_task_begins_with_its_targets_and_the_number_of_exemplars_for_each_example(tiny):
    parts = make_parts(tiny, icarl(), scenario="class", buffer=make_shrinking)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    started = tree_index(begin_task(parts, [replica], tree_stack([learner]), 1), 0)
    rows = replica.stream.train_rows[1]
    exemplars = int((learner.memory.rows >= 0).sum())
    ratio = started.method_state.exemplars_per_task_example
    assert float(ratio) == pytest.approx(exemplars / len(rows))
    targets = started.method_state.task_logit_mask.nonzero()[:, 0]
    assert targets.tolist() == parts.benchmark.labels[rows].unique().tolist()


def test_where_classes_come_in_turn_it_remembers_what_fine_tuning_forgets(tiny):
    accuracies = []
    for method in (icarl(), finetune()):
        parts = make_parts(tiny, method, scenario="class", buffer=make_shrinking, samples=40)
        outcome = train(parts, make_replicas(parts, lrs=(0.3,)), plan=TrainingPlan(4, 5, 1, 0))
        accuracies.append(outcome.accuracy[0, -1].mean())
    assert accuracies[0] > accuracies[1] + 0.2
