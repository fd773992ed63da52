"""Random numbers from keys, dropout with them, and the keys that a step gives to its examples."""

import pytest
import torch
from scipy.stats import beta, kstest

from gradalign_cli.models.model import Model
from gradalign_cli.numerics.noise import (
    LEVELS,
    beta_numbers,
    drop_units,
    key_from,
    random_integers,
    uniform_numbers,
)
from gradalign_cli.numerics.trees import tree_index
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import draw_chunks, pass_orders
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, noisy, steps_of_task, train

SHARES = [0.2, 0.5, 0.9]


def random_keys(count, seed=0):
    return torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed))


def test_the_integers_are_those_of_the_published_generator():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    outputs = random_integers(torch.tensor([1234567]), 20).view(torch.int64)[0]
    assert [int(output) % 2**64 for output in outputs] == published


def test_fewer_integers_are_the_first_of_many():
    keys = random_keys(3)
    assert torch.equal(random_integers(keys, 7), random_integers(keys, 40)[:, :7])
    assert torch.equal(random_integers(keys[1:2], 40), random_integers(keys, 40)[1:2])


def test_integers_are_uniform_and_uncorrelated_between_keys_and_positions():
    uniform = random_integers(random_keys(2000), 200).double() / LEVELS + 0.5
    counts = torch.histc(uniform, 16, 0, 1)
    expected = uniform.numel() / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi2(15) exceeds it once in 10,000
    centred = (uniform - 0.5) * 12**0.5
    for correlation in (
        centred[:1000].flatten() @ centred[1000:].flatten(),  # of keys
        centred[:, :100].flatten() @ centred[:, 100:].flatten(),  # of positions
        centred[:, :-1].flatten() @ centred[:, 1:].flatten(),
    ):
        assert abs(correlation) < 4 * uniform.numel() ** 0.5


@pytest.mark.parametrize("a", [1, 3, 20])
def test_beta_numbers_have_its_distribution(a):
    """Kolmogorov and Smirnov's distance; sqrt(n) times it exceeds 2.2 once in 8,000 cases."""
    uniform = uniform_numbers(key_from(torch.tensor(0.3)), 2 * a * 20_000, torch.float64)
    numbers = beta_numbers(uniform.view(2, a, 20_000))
    assert kstest(numbers.numpy(), beta(a, a).cdf).statistic * 20_000**0.5 < 2.2


@pytest.mark.parametrize("share", SHARES)
def test_dropout_keeps_the_mean_and_drops_its_share(share):
    keys, x = random_keys(4000), torch.linspace(1, 3, 25, dtype=torch.float64)
    dropped = drop_units(x.expand(4000, 25), share, random_integers(keys, 25))
    rounded_share = round(share * LEVELS) / LEVELS
    deviation = (share * (1 - share) / dropped.numel()) ** 0.5
    assert abs((dropped == 0).double().mean() - share) < 4 * deviation
    torch.testing.assert_close(dropped[dropped != 0].unique(), (x / (1 - rounded_share)).unique())
    spread = x * (share / (1 - share) / 4000) ** 0.5
    assert ((dropped.mean(0) - x).abs() <= 4 * spread + 1e-12).all()


def test_a_share_of_0_changes_nothing_and_a_share_near_1_is_finite():
    x, integers = torch.rand(50, 3, 4, 4), random_integers(random_keys(50), 48)
    assert torch.equal(drop_units(x, 0.0, integers), x)
    assert torch.isfinite(drop_units(x, 1 - 1e-9, integers)).all()


def log_noise_keys(parts):
    """The parts with a model that logs `training` and `noise_keys` of its calls, and the log."""
    calls = []

    def apply(params, statistics, images, training, noise_keys=()):
        calls.append((training, noise_keys))
        return parts.model.apply(params, statistics, images, training, noise_keys)

    model: Model = parts.model._replace(apply=apply)
    return parts._replace(model=model), calls


@pytest.mark.parametrize("name", ["agem", "s_gem", "gem", "er", "derpp"])
def test_in_a_step_every_example_has_a_different_key(name, tiny):
    parts, calls = log_noise_keys(make_parts(tiny, method(name), samples=20, model=noisy))
    (replica,) = make_replicas(parts)
    learner = tree_index(train(parts, [replica]).learners, 0)
    calls.clear()
    _, draw, *_ = next(steps_of_task(parts, replica, learner, 2))
    keys = torch.cat([noise_keys for _, noise_keys in calls])
    assert torch.equal(keys.sort().values, draw.noise_keys.sort().values)
    assert len(keys.unique()) == len(keys) == 5 + draw_sizes(parts, 2).memory_noise_key_count
    assert all(training for training, _ in calls)


def test_in_training_every_pass_has_new_keys_and_in_tests_nothing_is_dropped(tiny):
    parts, calls = log_noise_keys(make_parts(tiny, method("finetune"), samples=20, model=noisy))
    train(parts, make_replicas(parts))
    keys = torch.cat([noise_keys for training, noise_keys in calls if training])
    assert len(keys.unique()) == len(keys) == 3 * 20
    test_keys = [noise_keys for training, noise_keys in calls if not training]
    assert test_keys
    assert all(noise_keys == () for noise_keys in test_keys)


def test_keys_are_drawn_only_for_a_model_that_needs_noise(tiny):
    def first_draws(**options):
        parts = make_parts(tiny, method("derpp"), **options)
        (replica,) = make_replicas(parts)
        orders = [pass_orders(replica.stream, 0, 1, 1, False)]
        return next(draw_chunks(orders, [0], [0.1], 1, 5, draw_sizes(parts, 1), 0, 100))

    without_noise, with_noise = first_draws(), first_draws(model=noisy)
    assert without_noise.noise_keys.shape == (8, 1, 0)
    assert with_noise.noise_keys.shape == (8, 1, 5 + 2 * 6)
    with_noise = with_noise._replace(noise_keys=without_noise.noise_keys)
    for a, b in zip(without_noise, with_noise, strict=True):
        assert torch.equal(a, b)


def test_lwf_drops_nothing_in_the_old_network(tiny):
    parts, calls = log_noise_keys(make_parts(tiny, method("lwf"), samples=20, model=noisy))
    train(parts, make_replicas(parts))
    training_keys = [noise_keys for training, noise_keys in calls if training]
    assert len(training_keys) == 24
    absent = [keys for keys in training_keys if isinstance(keys, tuple)]
    assert len(absent) == 12
    assert all(keys == () for keys in absent)
