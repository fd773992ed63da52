import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.er import er
from gradalign_cli.methods.la_maml import la_maml
from tests.methods.given import setting
from tests.methods.small import found_by, gradient_on, one, some, some_params


def derived(method, batch, memory, params, state=None):
    state = method.init(setting(params, 2)) if state is None else state
    return found_by(method, batch, (memory,), params, state)


def test_with_rates_that_do_not_learn_it_is_c_maml():
    params, batch, memory = some_params(), some(3), some(5, 1)
    found, _ = derived(la_maml(0.3, 0.0), batch, memory, params)
    torch.testing.assert_close(found, derived(c_maml(0.3), batch, memory, params)[0])


def test_rates_follow_their_gradient_through_a_single_step():
    """One example makes the first-order hypergradient of the rates exact."""
    params, batch, memory = some_params(), some(1), some(5, 1)
    method = la_maml(0.3, 1e-3)
    state = method.init(setting(params, 2))
    h = gradient_on(batch, params)
    g = derived(er(), batch, memory, params - 0.3 * h, ())[0]
    found, after = derived(method, batch, memory, params, state)
    torch.testing.assert_close(after.rates, 0.3 + 1e-3 * h * g)
    torch.testing.assert_close(found, after.rates / 0.3 * g)


def test_a_rate_grows_where_gradients_agree_and_shrinks_where_they_oppose():
    params, batch, memory = some_params(), some(2), some(5, 1)
    path = sum(gradient_on(one(batch, n), params) for n in range(2))
    _, after = derived(la_maml(1e-6, 1e-6), batch, memory, params)
    g = derived(er(), batch, memory, params, ())[0]
    clear = (path * g).abs() > 1e-6
    assert clear.sum() > 6
    assert ((after.rates > 1e-6) == (path * g > 0))[clear].all()


def test_a_parameter_whose_rate_is_negative_rests():
    params, batch, memory = some_params(), some(2), some(5, 1)
    method = la_maml(0.3, 0.0)
    state = method.init(setting(params, 2))
    state = state._replace(rates=torch.where(torch.arange(12) < 5, -0.1, 0.3).double())
    found, _ = derived(method, batch, memory, params, state)
    assert (found[:5] == 0).all()
    assert (found[5:] != 0).all()


@pytest.mark.parametrize(("values", "text"), [((0.0, 0.1), "step"), ((0.1, -1.0), "rate_step")])
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be"):
        la_maml(*values)
