import pytest
import torch

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.er import er
from gradalign_cli.methods.fs_dgpm import fs_dgpm, soft
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.methods.method import LossInputs, batch_cross_entropy
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.vectors import autograd_gradient
from gradalign_cli.training.task_end import make_probe
from tests.methods.catalogue import method
from tests.methods.given import given, setting
from tests.methods.small import OUTPUTS, gradient_on, network, some, some_params
from tests.runs import make_parts, make_replicas, steps_of_task
from tests.step.test_step import learner_after

LAYERS = (Layer(3 * OUTPUTS, 3, False),)
ASCENT, RATE, TEMPERATURE = 0.7, 0.2, 2.0


def made(steps=1, start=0.1):
    return fs_dgpm([0.9], 0.0, 10, True, steps, ASCENT, RATE, TEMPERATURE, start)


def held(own, rank=2, seed=0):
    """The state with a random basis of a given rank and random importance."""
    state = own.init(setting(some_params(), 3, LAYERS))
    source = torch.Generator().manual_seed(seed)
    M = torch.linalg.qr(torch.randn(OUTPUTS, OUTPUTS, generator=source).double())[0]
    M[:, rank:] = 0
    raw = torch.randn(OUTPUTS, generator=source).double()
    return state._replace(bases=(M,), raw=(raw,), tasks=state.tasks + 1)


def derived(own, state, batch, memory, params):
    """g and the state after, for the small network as one layer with a matrix."""

    def derivative(trial):
        return autograd_gradient(lambda p: batch_cross_entropy(trial._replace(params=p), ()))(
            trial.params
        )

    trial = LossInputs(network, params, torch.zeros(1), batch, (memory,), LAYERS)
    (g, _), after = own.derive(derivative, trial, state)
    return g, after


@pytest.mark.parametrize("steps", [1, 2])
def test_importance_goes_down_the_slope_of_the_loss_where_the_climb_ends(steps):
    """By autograd through the climb, whose gradients are held fixed."""
    own = made(steps)
    state, batch, memory, params = held(own), some(4), some(6, 1), some_params()
    (M,), (raw,) = state.bases, state.raw
    leaf = raw.clone().requires_grad_()
    there = params
    for _ in range(steps):
        g = gradient_on(batch, there.detach()).view(3, OUTPUTS)
        up = (g @ M * torch.sigmoid(TEMPERATURE * leaf)) @ M.T
        there = there + ASCENT * up.flatten()
    trial = LossInputs(network, there, torch.zeros(1), concatenate_examples(batch, memory), ())
    (slope,) = torch.autograd.grad(batch_cross_entropy(trial, ())[0], leaf)
    g, after = derived(own, state, batch, memory, params)
    torch.testing.assert_close(after.raw[0], raw - RATE * slope)
    torch.testing.assert_close(g, gradient_on(concatenate_examples(batch, memory), there.detach()))
    assert (slope[:2] != 0).all()
    assert (slope[2:] == 0).all()  # columns that hold nothing learn nothing


def test_a_direction_keeps_of_each_column_what_its_importance_leaves():
    own = made()
    state = held(own)
    (M,), (weight,) = state.bases, soft(state)
    g = torch.randn(3 * OUTPUTS).double()
    direction, _ = own.align(given(g, g.new_zeros(0, len(g)))._replace(layers=LAYERS), state)
    G, found = g.view(3, OUTPUTS), direction.view(3, OUTPUTS)
    torch.testing.assert_close(found @ M, (G @ M) * (1 - weight))
    torch.testing.assert_close(found - found @ M @ M.T, G - G @ M @ M.T)


def test_without_a_climb_and_with_importance_of_one_it_is_gpm_with_replay(tiny):
    """A ring that keeps every example shows the inputs that GPM has seen."""
    full = fs_dgpm([1.0], 0.0, 100, True, 1, 0.0, 0.1, 1.0, 1e3)
    other = combine(gpm([1.0], 0.0, 6, "strict", True), er())
    found, expected = (
        learner_after(parts, make_replicas(parts)[0], 3).params
        for parts in (make_parts(tiny, each, samples=6) for each in (full, other))
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    plain = make_parts(tiny, er(), samples=6)
    free = learner_after(plain, make_replicas(plain)[0], 3).params
    assert (found - free).abs().max() > 0.01


def test_a_climb_stays_within_the_span_of_old_inputs():
    own = made()
    state, batch, memory, params = held(own, rank=0), some(4), some(6, 1), some_params()
    g, after = derived(own, state, batch, memory, params)
    torch.testing.assert_close(g, gradient_on(concatenate_examples(batch, memory), params))
    assert torch.equal(after.raw[0], state.raw[0])


def test_bases_hold_the_inputs_in_memory_through_their_own_tasks(tiny):
    """For permuted images the first layer's inputs are those of each task, not of the last."""
    parts = make_parts(tiny, method("fs_dgpm", thresholds=[1.0]), kind="permuted", samples=4)
    replica = make_replicas(parts)[0]
    after = learner_after(parts, replica, 2)
    view, memory = replica.stream.view, after.memory
    assert set(memory.tasks[memory.rows >= 0].tolist()) == {0, 1}
    probe = make_probe(parts, after, view, replica.stream.train_rows[1], 1)
    x = torch.cat(
        [probe.memory_layer_inputs(probe.filled_slots)[0], torch.ones(len(probe.filled_slots), 1)],
        1,
    )
    M = after.method_state.bases[0]
    assert M.square().sum().round() == 8  # of 17
    torch.testing.assert_close(x @ M @ M.T, x, rtol=0, atol=1e-3)
    own = memory.rows[probe.filled_slots]
    shown = (parts.benchmark.images[own] / 255).gather(
        1, view.pixel_source[memory.tasks[probe.filled_slots]]
    )
    torch.testing.assert_close(x[:, :-1], shown)


def test_importance_is_learned_in_a_task_and_starts_again_with_the_next(tiny):
    parts = make_parts(tiny, method("fs_dgpm", ascent=1.0, rate=1.0, temperature=1.0))
    replica = make_replicas(parts)[0]
    start = learner_after(parts, replica, 1)
    assert all((raw == 0.3).all() for raw in start.method_state.raw)
    *_, (_, _, _, after, _) = steps_of_task(parts, replica, start, 1)
    for raw, M in zip(after.method_state.raw, after.method_state.bases, strict=True):
        moved, there = (raw - 0.3).abs() > 1e-4, M.square().sum(0) > 0.5
        assert moved.any()
        assert (there | ~moved).all()
    assert all((raw == 0.3).all() for raw in learner_after(parts, replica, 2).method_state.raw)


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
