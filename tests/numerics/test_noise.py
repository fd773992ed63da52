"""Numbers that keys stand for, what dropout does with them, and who gets which keys in a step."""

import pytest
import torch

from gradalign_cli.models.model import Model
from gradalign_cli.numerics.noise import LEVELS, drop, numbers
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import draw_chunks, pass_orders
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, noisy, steps_of_task, train

SHARES = [0.2, 0.5, 0.9]


def some_keys(count, seed=0):
    return torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed))


def test_the_numbers_are_those_of_the_published_generator():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    found = numbers(torch.tensor([1234567]), 20).view(torch.int64)[0]
    assert [int(word) % 2**64 for word in found] == published


def test_fewer_numbers_are_the_first_of_many():
    keys = some_keys(3)
    assert torch.equal(numbers(keys, 7), numbers(keys, 40)[:, :7])
    assert torch.equal(numbers(keys[1:2], 40), numbers(keys, 40)[1:2])


def test_the_numbers_are_uniform_and_those_of_two_keys_or_places_independent():
    drawn = numbers(some_keys(2000), 200).double() / LEVELS + 0.5
    counts = torch.histc(drawn, 16, 0, 1)
    expected = drawn.numel() / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi2(15) exceeds it once in 10,000
    centred = (drawn - 0.5) * 12**0.5
    for correlation in (
        centred[:1000].flatten() @ centred[1000:].flatten(),  # of examples
        centred[:, :100].flatten() @ centred[:, 100:].flatten(),  # of places
        centred[:, :-1].flatten() @ centred[:, 1:].flatten(),
    ):
        assert abs(correlation) < 4 * drawn.numel() ** 0.5


@pytest.mark.parametrize("share", SHARES)
def test_dropout_keeps_the_mean_and_loses_its_share(share):
    keys, x = some_keys(4000), torch.linspace(1, 3, 25, dtype=torch.float64)
    found = drop(x.expand(4000, 25), share, numbers(keys, 25))
    lost = round(share * LEVELS) / LEVELS
    deviation = (share * (1 - share) / found.numel()) ** 0.5
    assert abs((found == 0).double().mean() - share) < 4 * deviation
    torch.testing.assert_close(found[found != 0].unique(), (x / (1 - lost)).unique())
    spread = x * (share / (1 - share) / 4000) ** 0.5
    assert ((found.mean(0) - x).abs() <= 4 * spread + 1e-12).all()


def test_dropout_of_nothing_changes_nothing_and_of_nearly_all_is_finite():
    x, drawn = torch.rand(50, 3, 4, 4), numbers(some_keys(50), 48)
    assert torch.equal(drop(x, 0.0, drawn), x)
    assert torch.isfinite(drop(x, 1 - 1e-9, drawn)).all()


def watched(parts):
    """The parts with a model that keeps what noise it is given, in training and in tests."""
    given = []

    def apply(params, statistics, x, training, noise=()):
        given.append((training, noise))
        return parts.model.apply(params, statistics, x, training, noise)

    model: Model = parts.model._replace(apply=apply)
    return parts._replace(model=model), given


@pytest.mark.parametrize("name", ["agem", "s_gem", "gem", "er", "derpp"])
def test_every_example_that_a_step_meets_has_a_key_of_its_own(name, tiny):
    parts, given = watched(make_parts(tiny, method(name), samples=20, model=noisy))
    (replica,) = make_replicas(parts)
    learner = torch.utils._pytree.tree_map(lambda t: t[0], train(parts, [replica]).learners)
    given.clear()
    _, draw, *_ = next(steps_of_task(parts, replica, learner, 2))
    used = torch.cat([noise for _, noise in given])
    assert torch.equal(used.sort().values, draw.noise.sort().values)
    assert len(used.unique()) == len(used) == 5 + draw_sizes(parts, 2).noise_keys
    assert all(training for training, _ in given)


def test_an_example_meets_another_network_in_every_pass_and_the_whole_one_in_tests(tiny):
    parts, given = watched(make_parts(tiny, method("finetune"), samples=20, model=noisy))
    train(parts, make_replicas(parts))
    trained = torch.cat([noise for training, noise in given if training])
    assert len(trained.unique()) == len(trained) == 3 * 20
    tests = [noise for training, noise in given if not training]
    assert tests
    assert all(noise == () for noise in tests)


def test_where_a_network_has_no_noise_no_key_is_drawn(tiny):
    def drawn(**model):
        parts = make_parts(tiny, method("derpp"), **model)
        (replica,) = make_replicas(parts)
        orders = [pass_orders(replica.stream, 0, 1, 1, False)]
        return next(draw_chunks(orders, [0], [0.1], 1, 5, draw_sizes(parts, 1), 0, 100))

    still, noise = drawn(), drawn(model=noisy)
    assert still.noise_keys.shape == (8, 1, 0)
    assert noise.noise_keys.shape == (8, 1, 5 + 2 * 6)
    for one, other in zip(still[:-2], noise[:-2], strict=True):
        assert torch.equal(one, other)


def test_lwf_asks_the_old_network_as_it_was_tested(tiny):
    parts, given = watched(make_parts(tiny, method("lwf"), samples=20, model=noisy))
    train(parts, make_replicas(parts))
    asked = [noise for training, noise in given if training]
    assert len(asked) == 24
    assert sum(noise == () for noise in asked if isinstance(noise, tuple)) == 12
