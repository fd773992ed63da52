import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.si import si
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, objective_value


def test_importance_is_the_loss_decrease_over_the_squared_change_of_a_parameter():
    start = torch.tensor([0.0, 1.0]).double()
    method = si(1.0, 0.5)
    state = method.init(make_setup(start, 2))
    params = start
    loss_decrease = torch.zeros(2).double()
    for g in torch.tensor([[2.0, -1.0], [1.0, 3.0]]).double():
        change = -0.1 * g
        state = method.after_step(state, g, params, params + change)
        loss_decrease -= g * change
        params = params + change
    state = method.end_task(state, params, None)
    expected = loss_decrease / ((params - start).square() + 0.5)
    torch.testing.assert_close(state.importance, expected)
    assert torch.equal(state.penalty_centre, params)
    assert (state.loss_decrease == 0).all()


def test_with_small_steps_on_a_quadratic_the_loss_decrease_is_exact():
    curvature = torch.tensor([1.0, 4.0, 9.0]).double()
    params = torch.ones(3).double()
    method = si(1.0, 1e-3)
    state = method.init(make_setup(params, 2))
    for _ in range(20000):
        g = curvature * params
        state = method.after_step(state, g, params, params - 1e-4 * g)
        params = params - 1e-4 * g
    expected = curvature / 2 * (1 - params.square())
    torch.testing.assert_close(state.loss_decrease, expected, rtol=1e-3, atol=0)


def test_the_gradient_of_the_penalty_does_not_count():
    params, batch = make_params(), make_examples(4)
    method = si(3.0, 0.1)
    state = method.init(make_setup(params, 2))
    state = state._replace(importance=torch.rand(12).double(), penalty_centre=params - 0.2)
    leaf = params.clone().requires_grad_()
    (g,) = torch.autograd.grad(objective_value(method, batch, (), leaf, state)[0], leaf)
    unpenalised = state._replace(importance=0 * state.importance)
    (batch_g,) = torch.autograd.grad(objective_value(method, batch, (), leaf, unpenalised)[0], leaf)
    change = -0.1 * g
    state_after = method.after_step(state, g, params, params + change)
    torch.testing.assert_close(state_after.loss_decrease, -batch_g * change)
    torch.testing.assert_close(g - batch_g, 2 * 3.0 * state.importance * 0.2)


def test_a_path_that_raises_the_loss_adds_no_importance():
    params = torch.zeros(1).double()
    method = si(1.0, 0.1)
    state = method.init(make_setup(params, 2))
    state = method.after_step(state, torch.ones(1).double(), params, params + 1)
    assert method.end_task(state, params + 1, None).importance == 0


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.damping` must be positive, found 0.0"):
        si(1.0, 0.0)
