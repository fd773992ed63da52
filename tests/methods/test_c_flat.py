import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_flat import c_flat
from tests.methods.given import setting
from tests.methods.small import found_by, gradient_on, some, some_params

A = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]]).double()


def quadratic(trial, state):
    """p'Ap / 2, whose products with the Hessian differences find exactly."""
    value = trial.params @ A @ trial.params / 2
    return value, trial.network(torch.zeros(12).double(), trial.statistics, trial.batch)


def unit(v):
    return v / v.norm()


def test_on_a_quadratic_it_is_the_gradient_of_both_maxima():
    p = torch.tensor([1.0, -2.0, 0.5]).double()
    method = c_flat(0.1, 0.3)
    found, _ = found_by(method, some(2), (), p, method.init(setting(p, 2)), quadratic)
    sharpest = A @ (p + 0.1 * unit(A @ p))
    steeper = p + 0.1 * unit(A @ unit(A @ p))
    rise = 0.1 * A @ unit(A @ steeper)  # the gradient of radius * |A p| there
    torch.testing.assert_close(found, sharpest + 0.3 * rise)


def test_with_a_radius_of_almost_nothing_it_is_the_gradient():
    params, batch = some_params(), some(4)
    method = c_flat(1e-7, 0.2)
    found, _ = found_by(method, batch, (), params, method.init(setting(params, 2)))
    torch.testing.assert_close(found, gradient_on(batch, params), rtol=1e-5, atol=1e-6)


def test_at_a_stationary_point_it_stays():
    p = torch.zeros(3).double()
    method = c_flat(0.1, 0.2)
    found, _ = found_by(method, some(2), (), p, method.init(setting(p, 2)), quadratic)
    assert torch.equal(found, p)


@pytest.mark.parametrize(("values", "text"), [((0.0, 0.1), "radius"), ((0.1, -1.0), "strength")])
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be"):
        c_flat(*values)
