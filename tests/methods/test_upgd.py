import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.upgd import upgd
from tests.methods.given import make_gradients, make_setup


def directions(method, params, gradients, numbers=None):
    """The directions of steps that leave the parameters as they are."""
    state = method.init(make_setup(params, 2))
    for number, g in zip(numbers or [0.5] * len(gradients), gradients, strict=True):
        given = make_gradients(g, g.new_zeros(0, len(g)))
        given = given._replace(random_numbers=g.new_tensor([number]))
        direction, state = method.align(given, state)
        yield direction


def test_without_noise_it_is_the_published_rule():
    """Bias-corrected utility over the largest uncorrected one, as in the published code."""
    p = torch.tensor([1.0, -2.0, 0.5]).double()
    first, second = torch.tensor([[0.3, 0.4, -2.0], [-1.0, 0.2, 0.1]]).double()
    utility = 0.1 * (0.9 * -(first * p) - second * p)
    u = torch.sigmoid(utility / (1 - 0.9**2) / utility.max())
    *_, direction = directions(upgd(0.9, 0.0), p, [first, second])
    torch.testing.assert_close(direction, second * (1 - u))


def test_equally_useful_weights_follow_the_gradient():
    p = torch.tensor([1.0, 2.0, -4.0]).double()
    (direction,) = directions(upgd(0.0, 0.0), p, [-1 / p])
    torch.testing.assert_close(direction, -1 / p * (1 - torch.tensor(1.0).double().sigmoid()))


def test_the_utility_is_of_the_parameters_that_the_last_step_left():
    method, g = upgd(0.0, 0.0), torch.tensor([-1.0, -1.0]).double()
    state = method.init(make_setup(torch.tensor([1.0, 2.0]).double(), 2))
    state = method.after_step(state, g, state.params, torch.tensor([6.0, 3.0]).double())
    given = make_gradients(g, g.new_zeros(0, 2))
    u = torch.sigmoid(torch.tensor([1.0, 0.5]).double())
    torch.testing.assert_close(method.align(given, state)[0], g * (1 - u))


def test_the_noise_is_normal_and_another_in_each_step():
    zeros = torch.zeros(40_000).double()
    first, again, other = directions(upgd(0.9, 0.6), zeros, [zeros] * 3, [0.25, 0.25, 0.75])
    assert torch.equal(first, again)
    for noise in (first, other):
        assert abs(noise.mean()) < 0.3 * 4 / 200
        assert abs(noise.std() - 0.3) < 0.3 * 4 / 283  # half of 0.6, as all utilities are 0
        assert abs((noise.abs() < 0.3).double().mean() - 0.6827) < 0.01
    assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1]) < 4 / 200


@pytest.mark.parametrize(
    ("values", "text"), [((1.0, 0.1), r"decay` must be in \[0, 1\)"), ((0.9, -1.0), "noise` must")]
)
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=text):
        upgd(*values)
