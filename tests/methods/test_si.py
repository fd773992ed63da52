import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.si import si
from tests.methods.given import setting
from tests.methods.small import some, some_params, value_of


def test_importance_is_what_a_weight_saved_over_how_far_it_went():
    start = torch.tensor([0.0, 1.0]).double()
    method = si(1.0, 0.5)
    state = method.init(setting(start, 2))
    params = start
    saved = torch.zeros(2).double()
    for g in ([2.0, -1.0], [1.0, 3.0]):
        g = torch.tensor(g).double()
        change = -0.1 * g
        state = method.after_step(state, g, params, params + change)
        saved -= g * change
        params = params + change
    state = method.end_task(state, params, None)
    expected = saved / ((params - start).square() + 0.5)
    torch.testing.assert_close(state.importance, expected)
    assert torch.equal(state.anchor, params)
    assert (state.path == 0).all()


def test_on_a_quadratic_the_path_of_small_steps_is_the_loss_that_was_saved():
    curvature = torch.tensor([1.0, 4.0, 9.0]).double()
    params = torch.ones(3).double()
    method = si(1.0, 1e-3)
    state = method.init(setting(params, 2))
    for _ in range(20000):
        g = curvature * params
        state = method.after_step(state, g, params, params - 1e-4 * g)
        params = params - 1e-4 * g
    saved = curvature / 2 * (1 - params.square())
    torch.testing.assert_close(state.path, saved, rtol=1e-3, atol=0)


def test_the_gradient_of_the_penalty_itself_does_not_count_as_saved():
    params, batch = some_params(), some(4)
    method = si(3.0, 0.1)
    state = method.init(setting(params, 2))
    state = state._replace(importance=torch.rand(12).double(), anchor=params - 0.2)
    moving = params.clone().requires_grad_()
    (whole,) = torch.autograd.grad(value_of(method, batch, (), moving, state)[0], moving)
    free = state._replace(importance=0 * state.importance)
    (plain,) = torch.autograd.grad(value_of(method, batch, (), moving, free)[0], moving)
    change = -0.1 * whole
    torch.testing.assert_close(
        method.after_step(state, whole, params, params + change).path, -plain * change
    )
    torch.testing.assert_close(whole - plain, 2 * 3.0 * state.importance * 0.2)


def test_an_uphill_path_adds_no_importance():
    params = torch.zeros(1).double()
    method = si(1.0, 0.1)
    state = method.after_step(method.init(setting(params, 2)), params + 1, params, params + 1)
    assert method.end_task(state, params + 1, None).importance == 0


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match=r"`method.damping` must be positive, found 0.0"):
        si(1.0, 0.0)
