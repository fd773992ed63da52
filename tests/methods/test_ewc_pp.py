from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ewc_pp import ewc_pp
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, objective_value
from tests.methods.test_rwalk import random_steps

PROBE = SimpleNamespace(task=0)


def test_the_fisher_is_updated_after_each_interval_and_divided_by_its_largest_entry():
    params = make_params()
    method = ewc_pp(0.0, 0.3, 2)
    state, params_after, steps = random_steps(method, method.init(make_setup(params, 2)), params, 7)
    fisher = torch.zeros(12).double()
    for n in (0, 2, 4):  # the seventh step is in an interval that has not ended
        fisher = 0.3 * (steps[n][0] ** 2 + steps[n + 1][0] ** 2) / 2 + 0.7 * fisher
    state = method.end_task(state, params_after, PROBE)
    torch.testing.assert_close(state.importance, fisher / fisher.max())
    assert torch.equal(state.penalty_centre, params_after)
    torch.testing.assert_close(state.fisher, fisher)
    assert (state.interval_square_sum == 0).all()


def test_the_penalty_is_around_the_last_solution_and_its_gradient_is_not_in_the_fisher():
    params, batch = make_params(), make_examples(4)
    method = ewc_pp(3.0, 0.5, 1)
    state = method.init(make_setup(params, 2))
    state = state._replace(importance=torch.rand(12).double(), penalty_centre=params - 0.2)
    leaf = params.clone().requires_grad_()
    value = objective_value(method, batch, (), leaf, state)[0]
    (g,) = torch.autograd.grad(value, leaf)
    plain_value = objective_value(method, batch, (), params, state._replace(penalty_centre=params))[
        0
    ]
    penalty = 3.0 * (state.importance * 0.04).sum()
    torch.testing.assert_close(value.detach(), plain_value + penalty)
    plain_g = g - 2 * 3.0 * state.importance * 0.2
    state = method.after_step(state, g, params, params)
    torch.testing.assert_close(state.fisher, 0.5 * plain_g**2)


@pytest.mark.parametrize(
    ("name", "value"), [("strength", -1.0), ("fisher_rate", 1.5), ("interval", 0)]
)
def test_wrong_values_are_refused(name, value):
    settings = {"strength": 1.0, "fisher_rate": 0.9, "interval": 10}
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        ewc_pp(**settings | {name: value})
