import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.methods.anchors import fine_tuned_on_memory
from gradalign_cli.methods.er import er
from gradalign_cli.methods.hal import hal, mean_anchor_distance
from gradalign_cli.models.model import Layer
from gradalign_cli.training.task_end import make_probe
from tests.methods.given import make_setup
from tests.methods.small import (
    make_examples,
    make_params,
    method_gradient,
)
from tests.runs import make_parts, make_replicas
from tests.step.test_step import learner_after

HEAD = Layer(12, 4, False)


def make_hal(strength=0.5, lr=0.3, decay=0.75, gamma=0.1, anchor_steps=5, tuning_steps=1):
    """HAL, small."""
    return hal(strength, lr, decay, gamma, anchor_steps, tuning_steps, 4)


def state_with_anchors(method, count, visible=(True,) * 4):
    """The state after tasks with so many anchors [count, 3], of random pixels."""
    state = method.init(make_setup(make_params(), 3, (HEAD,), outputs=4))
    masks = torch.tensor(visible).expand(count, -1)
    return state._replace(anchors=make_examples(count, seed=5).images, anchor_masks=masks)


def test_while_there_are_no_anchors_it_is_experience_replay():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = make_hal()
    state = method.init(make_setup(params, 3, (HEAD,), outputs=4))
    g, _ = method_gradient(method, batch, (memory_batch,), params, state)
    expected, _ = method_gradient(er(), batch, (memory_batch,), params, ())
    torch.testing.assert_close(g, expected)


def test_the_anchors_add_the_gradient_of_what_a_step_would_change_in_their_logits():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = make_hal()
    state = state_with_anchors(method, 2)
    g, _ = method_gradient(method, batch, (memory_batch,), params, state)
    er_g, _ = method_gradient(er(), batch, (memory_batch,), params, ())
    later_logits = state.anchors @ (params - 0.3 * er_g).view(3, 4)
    leaf = params.clone().requires_grad_()
    change = (state.anchors @ leaf.view(3, 4) - later_logits).square().mean()
    torch.testing.assert_close(g, er_g + 0.5 * torch.autograd.grad(change, leaf)[0])
    assert (g - er_g).norm() > 0.01 * er_g.norm()


def test_for_a_linear_network_the_added_gradient_is_the_step_seen_through_the_anchors():
    """d/dW |A W - A (W - lr G)|^2 = 2 lr A'A G, with anchors A [k, F] and the gradient G [F, K]."""
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = make_hal()
    state = state_with_anchors(method, 2)
    g, _ = method_gradient(method, batch, (memory_batch,), params, state)
    er_g, _ = method_gradient(er(), batch, (memory_batch,), params, ())
    A = state.anchors
    added = 0.5 * 2 * 0.3 * A.T @ A @ er_g.view(3, 4) / (2 * 4)
    torch.testing.assert_close(g, er_g + added.flatten())


def test_neither_hidden_logits_nor_padding_count():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    masks = torch.tensor([[True, True, False, False], [False] * 4, [False, False, True, False]])
    distance = mean_anchor_distance(logits, torch.zeros(3, 4).double(), masks)
    expected = (logits[0, :2].square().mean() + logits[2, 2] ** 2) / 2
    torch.testing.assert_close(distance, expected)
    assert mean_anchor_distance(logits[:0], logits[:0], masks[:0]) == 0


def test_the_mean_feature_decays_towards_those_of_the_batch():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    method = make_hal()
    state = state_with_anchors(method, 2)._replace(mean_feature_vector=torch.ones(3).double())
    _, after = method_gradient(method, batch, (memory_batch,), params, state)
    expected = 0.75 * torch.ones(3).double() + 0.25 * batch.images.mean(0)
    torch.testing.assert_close(after.mean_feature_vector, expected)


def forgetting(parts, probe, images, params, tuned_params):
    """How much fine-tuning raises the loss of images [k, ...] of the classes of the ended task."""
    target = probe.task_logit_mask.nonzero()[:, 0]
    losses = [
        cross_entropy(parts.model.apply(p, p[:0], images, False).logits, target, reduction="none")
        for p in (params, tuned_params)
    ]
    return (losses[1] - losses[0]).sum()


def test_the_search_finds_an_anchor_of_each_class_that_fine_tuning_would_spoil_more(tiny):
    parts = make_parts(tiny, make_hal(gamma=0.0, anchor_steps=30), scenario="class")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows, view = replica.stream.train_rows[1], replica.stream.view
    probe, start = make_probe(parts, learner, view, rows, 1), learner.method_state
    searched = parts.method.end_task(start, learner.params, probe)
    drawn = make_hal(gamma=0.0, anchor_steps=0).end_task(start, learner.params, probe)
    assert searched.anchors.shape == (
        4,
        *parts.benchmark.image_shape,
    )  # two tasks
    assert torch.equal(searched.anchors[:2], start.anchors)
    tuned = fine_tuned_on_memory(learner.params, probe, start.lr, 1, 4)
    before, after = (
        forgetting(parts, probe, state.anchors[2:], learner.params, tuned)
        for state in (drawn, searched)
    )
    assert after > before
    assert searched.mean_feature_vector.abs().sum() == 0


def test_a_strong_pull_brings_the_features_of_anchors_to_the_mean(tiny):
    parts = make_parts(tiny, make_hal(lr=0.05, gamma=10.0, anchor_steps=100), scenario="class")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    rows, view = replica.stream.train_rows[1], replica.stream.view
    probe = make_probe(parts, learner, view, rows, 1)
    with torch.no_grad():
        output = probe.network(learner.params, probe.statistics, probe.examples(rows))
    mean_feature_vector = output.features.mean(0)
    start = learner.method_state._replace(mean_feature_vector=mean_feature_vector)
    searched = parts.method.end_task(start, learner.params, probe)
    drawn = make_hal(anchor_steps=0).end_task(start, learner.params, probe)
    distances = []
    for state in (drawn, searched):
        x = state.anchors[2:]
        features = parts.model.apply(learner.params, learner.statistics, x, False).features
        distances.append((features - mean_feature_vector).norm())
    assert distances[1] < 0.5 * distances[0]


def test_fine_tuning_takes_steps_of_sgd_on_batches_that_use_up_the_memory_first(tiny):
    parts = make_parts(tiny, make_hal(), scenario="class")
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 1)
    probe = make_probe(parts, learner, replica.stream.view, replica.stream.train_rows[0], 0)
    slots = []

    def constant_gradient(params, batch_slots):
        slots.append(batch_slots)
        return torch.ones_like(params)

    probe = probe._replace(memory_gradient=constant_gradient)
    params = fine_tuned_on_memory(learner.params, probe, torch.tensor(0.5), 3, 4)
    torch.testing.assert_close(params, learner.params - 3 * 0.5)
    count = len(probe.filled_slot_indices)
    first_pass = torch.cat(slots)[:count]
    assert sorted(first_pass.tolist()) == probe.filled_slot_indices.tolist()[: len(first_pass)]
    assert all(len(batch) <= 4 for batch in slots)
