import pytest
import torch

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.er import er
from gradalign_cli.methods.fs_dgpm import column_importance, fs_dgpm
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.method import LossInputs, batch_cross_entropy
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.vectors import autograd_gradient
from gradalign_cli.training.task_end import make_probe
from tests.methods.catalogue import method
from tests.methods.given import make_gradients, make_setup
from tests.methods.small import OUTPUTS, cross_entropy_gradient, make_examples, make_params, network
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after

LAYERS = (Layer(3 * OUTPUTS, 3, False),)  # of the network of small.py, as one matrix [3, OUTPUTS]
ASCENT, RATE, TEMPERATURE = 0.7, 0.2, 2.0


def make_method(steps=1):
    """FS-DGPM for the small network."""
    return fs_dgpm([0.9], 0.0, 10, True, steps, ASCENT, RATE, TEMPERATURE, start=0.1)


def make_state(method, rank=2, seed=0):
    """A state with a random basis of the given rank, padded with zeros, and random importance."""
    state = method.init(make_setup(make_params(), 3, LAYERS))
    generator = torch.Generator().manual_seed(seed)
    M = torch.linalg.qr(torch.randn(OUTPUTS, OUTPUTS, generator=generator).double())[0]
    M[:, rank:] = 0
    raw = torch.randn(OUTPUTS, generator=generator).double()
    return state._replace(bases=(M,), raw_importance=(raw,), ended_tasks=state.ended_tasks + 1)


def gradient_and_state(method, state, batch, memory_batch, params):
    """The gradient [P] that the method finds for the small network, and its state afterwards."""

    def take_gradient(inputs):
        gradient = autograd_gradient(lambda p: batch_cross_entropy(inputs._replace(params=p), ()))
        return gradient(inputs.params)

    inputs = LossInputs(network, params, torch.zeros(1), batch, (memory_batch,), LAYERS)
    (g, _), state_after = method.find_gradient(take_gradient, inputs, state)
    return g, state_after


@pytest.mark.parametrize("steps", [1, 2])
def test_importance_descends_the_loss_after_the_ascent(steps):
    """By autograd through the ascent, whose gradients are held constant."""
    method = make_method(steps)
    state, params = make_state(method), make_params()
    batch, memory_batch = make_examples(4), make_examples(6, seed=1)
    examples = concatenate_examples(batch, memory_batch)
    (M,), (raw,) = state.bases, state.raw_importance
    leaf = raw.clone().requires_grad_()
    ascended = params
    for _ in range(steps):
        G = cross_entropy_gradient(batch, ascended.detach()).view(3, OUTPUTS)
        step = (G @ M * torch.sigmoid(TEMPERATURE * leaf)) @ M.T
        ascended = ascended + ASCENT * step.flatten()
    inputs = LossInputs(network, ascended, torch.zeros(1), examples, ())
    (raw_gradient,) = torch.autograd.grad(batch_cross_entropy(inputs, ())[0], leaf)
    g, state_after = gradient_and_state(method, state, batch, memory_batch, params)
    torch.testing.assert_close(state_after.raw_importance[0], raw - RATE * raw_gradient)
    torch.testing.assert_close(g, cross_entropy_gradient(examples, ascended.detach()))
    assert (raw_gradient[:2] != 0).all()
    assert (raw_gradient[2:] == 0).all()  # columns of zeros learn nothing


def test_a_direction_loses_of_each_column_as_much_as_its_importance():
    method = make_method()
    state = make_state(method)
    (M,), (importance,) = state.bases, column_importance(state)
    g = torch.randn(3 * OUTPUTS).double()
    gradients = make_gradients(g, g.new_zeros(0, len(g)))._replace(layers=LAYERS)
    direction, _ = method.align(gradients, state)
    G, D = g.view(3, OUTPUTS), direction.view(3, OUTPUTS)
    torch.testing.assert_close(D @ M, (G @ M) * (1 - importance))
    torch.testing.assert_close(D - D @ M @ M.T, G - G @ M @ M.T)


def test_without_an_ascent_and_with_importance_one_it_is_gpm_with_replay(tiny):
    """The ring keeps every example, so the inputs in memory are those that GPM sees."""
    unascended = fs_dgpm([1.0], 0.0, 100, True, 1, 0.0, 0.1, 1.0, 1e3)
    gpm_with_replay = combine(gpm([1.0], 0.0, 6, "strict", True), er())
    params, expected, replayed = (
        learner_after(parts, make_replicas(parts)[0], 3).params
        for parts in (
            make_parts(tiny, each_method, samples=6)
            for each_method in (unascended, gpm_with_replay, er())
        )
    )
    torch.testing.assert_close(params, expected, rtol=1e-3, atol=1e-4)
    assert (params - replayed).abs().max() > 0.01


def test_with_empty_bases_there_is_no_ascent():
    method = make_method()
    state, params = make_state(method, rank=0), make_params()
    batch, memory_batch = make_examples(4), make_examples(6, seed=1)
    g, state_after = gradient_and_state(method, state, batch, memory_batch, params)
    expected = cross_entropy_gradient(concatenate_examples(batch, memory_batch), params)
    torch.testing.assert_close(g, expected)
    assert torch.equal(state_after.raw_importance[0], state.raw_importance[0])


def test_bases_hold_the_inputs_in_memory_as_their_own_tasks_show_them(tiny):
    """For permuted images, the inputs of the first layer depend on the task of an example."""
    parts = make_parts(tiny, method("fs_dgpm", thresholds=[1.0]), kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    learner = learner_after(parts, replica, 2)
    view, memory = replica.stream.view, learner.memory
    assert set(memory.tasks[memory.rows >= 0].tolist()) == {0, 1}
    probe = make_probe(parts, learner, view, replica.stream.train_rows[1], 1)
    slots = probe.filled_slot_indices
    images = probe.memory_layer_inputs(slots)[0]
    shown_images = (parts.benchmark.images[memory.rows[slots]] / 255).gather(
        1, view.pixel_source[memory.tasks[slots]]
    )
    torch.testing.assert_close(images, shown_images)
    inputs = torch.cat([images, torch.ones(len(slots), 1)], 1)
    M = learner.method_state.bases[0]
    assert M.square().sum().round() == 8  # of 17
    torch.testing.assert_close(inputs @ M @ M.T, inputs, rtol=0, atol=1e-3)


def test_importance_is_learned_in_a_task_and_starts_anew_with_the_next(tiny):
    parts = make_parts(tiny, method("fs_dgpm", ascent=1.0, rate=1.0, temperature=1.0))
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 1)
    assert all((raw == 0.3).all() for raw in start.method_state.raw_importance)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)
    state = after.method_state
    for raw, M in zip(state.raw_importance, state.bases, strict=True):
        changed, filled = (raw - 0.3).abs() > 1e-4, M.square().sum(0) > 0.5
        assert changed.any()
        assert (filled | ~changed).all()
    second_end = learner_after(parts, replica, 2).method_state
    assert all((raw == 0.3).all() for raw in second_end.raw_importance)


@pytest.mark.parametrize(
    ("name", "value", "domain"),
    [
        ("samples", 0, "positive"),
        ("steps", 0, "positive"),
        ("ascent", -1.0, "non-negative"),
        ("rate", -1.0, "non-negative"),
        ("temperature", -1.0, "non-negative"),
        ("thresholds", [0.0], r"in \(0, 1\]"),
    ],
)
def test_wrong_values_are_refused(name, value, domain):
    with pytest.raises(UserError, match=f"`method.{name}` must be {domain}"):
        method("fs_dgpm", **{name: value})
