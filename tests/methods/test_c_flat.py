import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_flat import c_flat
from tests.methods.given import make_setup
from tests.methods.small import cross_entropy_gradient, make_examples, make_params, method_gradient

A = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]]).double()


def quadratic(inputs, state):
    """p'Ap / 2, whose products with the Hessian are exact differences of gradients."""
    value = inputs.params @ A @ inputs.params / 2
    return value, inputs.network(torch.zeros(12).double(), inputs.statistics, inputs.batch)


def unit(vector):
    return vector / vector.norm()


def c_flat_gradient(radius, strength, batch, params, objective=None):
    method = c_flat(radius, strength)
    state = method.init(make_setup(params, 2))
    return method_gradient(method, batch, (), params, state, objective)[0]


def test_on_a_quadratic_it_is_the_gradient_of_both_maxima():
    p = torch.tensor([1.0, -2.0, 0.5]).double()
    g = c_flat_gradient(0.1, 0.3, make_examples(2), p, quadratic)
    sharp_gradient = A @ (p + 0.1 * unit(A @ p))
    steep_params = p + 0.1 * unit(A @ unit(A @ p))
    norm_gradient = 0.1 * A @ unit(A @ steep_params)  # the gradient of 0.1 |A p| at steep_params
    torch.testing.assert_close(g, sharp_gradient + 0.3 * norm_gradient)


def test_with_a_radius_near_zero_it_is_the_gradient():
    params, batch = make_params(), make_examples(4)
    g = c_flat_gradient(1e-7, 0.2, batch, params)
    torch.testing.assert_close(g, cross_entropy_gradient(batch, params), rtol=1e-5, atol=1e-6)


def test_at_a_stationary_point_it_is_zero():
    g = c_flat_gradient(0.1, 0.2, make_examples(2), torch.zeros(3).double(), quadratic)
    assert torch.equal(g, torch.zeros(3).double())


@pytest.mark.parametrize(("values", "text"), [((0.0, 0.1), "radius"), ((0.1, -1.0), "strength")])
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be"):
        c_flat(*values)
