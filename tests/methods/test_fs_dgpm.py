import pytest
import torch

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.er import er
from gradalign_cli.methods.fs_dgpm import climb, column_importance, fs_dgpm, pieces_of_batch
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.method import LossInputs, batch_cross_entropy
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.numerics.vectors import autograd_gradient_and_value
from gradalign_cli.training.task_end import make_probe
from tests.methods.catalogue import method
from tests.methods.given import make_setup
from tests.methods.small import OUTPUTS, cross_entropy_gradient, make_examples, make_params, network
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after

LAYERS = (Layer(3 * OUTPUTS, 3, False),)  # of the network of small.py, as one matrix [3, OUTPUTS]
ASCENT, RATE, TEMPERATURE = 0.7, 0.2, 2.0


def make_method(steps=1):
    """FS-DGPM for the small network."""
    return fs_dgpm([0.9], 0.0, 10, True, steps, ASCENT, RATE, TEMPERATURE, initial_importance=0.1)


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
        gradient = autograd_gradient_and_value(
            lambda p: batch_cross_entropy(inputs._replace(params=p), ())
        )
        return gradient(inputs.params)

    inputs = LossInputs(network, params, torch.zeros(1), batch, (memory_batch,), LAYERS)
    (g, _), state_after = method.find_gradient(take_gradient, inputs, state)
    return g, state_after


@pytest.mark.parametrize("steps", [1, 2])
def test_importance_descends_the_mean_loss_after_the_climbs(steps):
    """By autograd through the climbs, whose gradients are held constant."""
    method = make_method(steps)
    state, params = make_state(method), make_params()
    batch, memory_batch = make_examples(4), make_examples(6, seed=1)
    examples = concatenate_examples(batch, memory_batch)
    (M,), (raw,) = state.bases, state.raw_importance
    leaf = raw.clone().requires_grad_()
    climbed, losses, gradients = params, [], []
    for numbers in torch.arange(4).chunk(steps):
        piece = tree_map(lambda field, numbers=numbers: field[numbers], batch)
        G = cross_entropy_gradient(piece, climbed.detach()).view(3, OUTPUTS)
        step = (G @ M * torch.sigmoid(TEMPERATURE * leaf)) @ M.T
        climbed = climbed + ASCENT * step.flatten()
        inputs = LossInputs(network, climbed, torch.zeros(1), examples, ())
        losses.append(batch_cross_entropy(inputs, ())[0])
        gradients.append(cross_entropy_gradient(examples, climbed.detach()))
    (raw_gradient,) = torch.autograd.grad(sum(losses) / steps, leaf)
    g, state_after = gradient_and_state(method, state, batch, memory_batch, params)
    torch.testing.assert_close(state_after.raw_importance[0], raw - RATE * raw_gradient)
    torch.testing.assert_close(g, sum(gradients) / steps)
    assert (raw_gradient[:2] != 0).all()
    assert (raw_gradient[2:] == 0).all()  # columns of zeros learn nothing


def test_the_first_task_climbs_in_the_whole_space():
    method = make_method(2)
    params = make_params()
    state = method.init(make_setup(params, 3, LAYERS))
    batch, memory_batch = make_examples(5), make_examples(6, seed=1)
    examples = concatenate_examples(batch, memory_batch)
    first_piece = tree_map(lambda field: field[:3], batch)
    second_piece = tree_map(lambda field: field[3:], batch)
    first = params + ASCENT * cross_entropy_gradient(first_piece, params)
    second = first + ASCENT * cross_entropy_gradient(second_piece, first)
    expected = [cross_entropy_gradient(examples, climbed) for climbed in (first, second)]
    g, state_after = gradient_and_state(method, state, batch, memory_batch, params)
    torch.testing.assert_close(g, (expected[0] + expected[1]) / 2)
    assert (g - cross_entropy_gradient(examples, params)).norm() > 0.05
    assert torch.equal(state_after.raw_importance[0], state.raw_importance[0])


def test_later_tasks_climb_within_the_bases_and_freely_in_layers_without_one():
    layers = (Layer(2 * OUTPUTS, 2, False), Layer(OUTPUTS, 0, False))
    state, params = make_state(make_method()), make_params()
    (M,), (importance,) = state.bases, column_importance(state)
    g = torch.randn(3 * OUTPUTS, generator=torch.Generator().manual_seed(0)).double()
    step = (climb(params, g, layers, state) - params).view(3, OUTPUTS) / ASCENT
    torch.testing.assert_close(step[:2], g.view(3, OUTPUTS)[:2] @ M @ importance.diag() @ M.T)
    torch.testing.assert_close(step[2], g[2 * OUTPUTS :])


@pytest.mark.parametrize(
    ("examples", "count", "sizes"),
    [(10, 2, [5, 5]), (5, 2, [3, 2]), (1, 2, [1]), (5, 4, [2, 2, 1]), (4, 1, [4])],
)
def test_the_pieces_of_a_batch_hold_each_example_once(examples, count, sizes):
    batch = make_examples(examples)
    pieces = pieces_of_batch(batch, count)
    assert [len(piece.target) for piece in pieces] == sizes
    for joined, field in zip(concatenate_examples(*pieces), batch, strict=True):
        torch.testing.assert_close(joined, field)


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
    parts = make_parts(tiny, method("fs_dgpm", climb_lr=1.0, importance_lr=1.0, temperature=1.0))
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
        ("pieces", 0, "positive"),
        ("climb_lr", -1.0, "non-negative"),
        ("importance_lr", -1.0, "non-negative"),
        ("temperature", -1.0, "non-negative"),
        ("thresholds", [0.0], r"in \(0, 1\]"),
    ],
)
def test_wrong_values_are_refused(name, value, domain):
    with pytest.raises(UserError, match=f"`method.{name}` must be {domain}"):
        method("fs_dgpm", **{name: value})
