import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.er import er
from gradalign_cli.methods.la_maml import la_maml
from tests.methods.given import make_setup
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    method_gradient,
    single_example,
)


def gradient_and_state(method, batch, memory_batch, params, state=None):
    state = method.init(make_setup(params, 2)) if state is None else state
    return method_gradient(method, batch, (memory_batch,), params, state)


def test_with_rates_that_do_not_learn_it_is_c_maml():
    params, batch, memory_batch = make_params(), make_examples(3), make_examples(5, 1)
    g, _ = gradient_and_state(la_maml(0.3, 0.0), batch, memory_batch, params)
    expected, _ = gradient_and_state(c_maml(0.3), batch, memory_batch, params)
    torch.testing.assert_close(g, expected)


def test_rates_follow_their_gradient_through_a_single_step():
    """With one example the first-order hypergradient of the rates is exact."""
    params, batch, memory_batch = make_params(), make_examples(1), make_examples(5, 1)
    method = la_maml(0.3, 1e-3)
    state = method.init(make_setup(params, 2))
    h = cross_entropy_gradient(batch, params)
    g = gradient_and_state(er(), batch, memory_batch, params - 0.3 * h, ())[0]
    scaled_g, state = gradient_and_state(method, batch, memory_batch, params, state)
    torch.testing.assert_close(state.lrs, 0.3 + 1e-3 * h * g)
    torch.testing.assert_close(scaled_g, state.lrs / 0.3 * g)


def test_a_rate_grows_where_gradients_agree_and_shrinks_where_they_oppose():
    params, batch, memory_batch = make_params(), make_examples(2), make_examples(5, 1)
    gradient_sum = sum(cross_entropy_gradient(single_example(batch, n), params) for n in range(2))
    _, state = gradient_and_state(la_maml(1e-6, 1e-6), batch, memory_batch, params)
    g = gradient_and_state(er(), batch, memory_batch, params, ())[0]
    clear = (gradient_sum * g).abs() > 1e-6
    assert clear.sum() > 6
    assert ((state.lrs > 1e-6) == (gradient_sum * g > 0))[clear].all()


def test_a_parameter_with_a_negative_rate_does_not_move():
    params, batch, memory_batch = make_params(), make_examples(2), make_examples(5, 1)
    method = la_maml(0.3, 0.0)
    state = method.init(make_setup(params, 2))
    state = state._replace(lrs=torch.where(torch.arange(12) < 5, -0.1, 0.3).double())
    g, _ = gradient_and_state(method, batch, memory_batch, params, state)
    assert (g[:5] == 0).all()
    assert (g[5:] != 0).all()


@pytest.mark.parametrize(
    ("values", "text"), [((0.0, 0.1), "initial_lr"), ((0.1, -1.0), "lr_of_lrs")]
)
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be"):
        la_maml(*values)
