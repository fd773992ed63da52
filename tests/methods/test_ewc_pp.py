from types import SimpleNamespace

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.ewc_pp import ewc_pp
from tests.methods.given import setting
from tests.methods.small import some, some_params, value_of
from tests.methods.test_rwalk import random_walk

ENDED = SimpleNamespace(task=0)


def test_the_running_fisher_is_of_the_means_over_intervals_and_enters_over_its_largest():
    params = some_params()
    method = ewc_pp(0.0, 0.3, 2)
    state, after, made = random_walk(method, method.init(setting(params, 2)), params, 7)
    fisher = torch.zeros(12).double()
    for n in (0, 2, 4):  # the seventh step is of an interval that is not over
        fisher = 0.3 * (made[n][0] ** 2 + made[n + 1][0] ** 2) / 2 + 0.7 * fisher
    state = method.end_task(state, after, ENDED)
    torch.testing.assert_close(state.importance, fisher / fisher.max())
    assert torch.equal(state.anchor, after)
    torch.testing.assert_close(state.fisher, fisher)
    assert (state.squares == 0).all()


def test_the_penalty_is_around_the_last_solution_and_counts_for_nothing_in_the_fisher():
    params, batch = some_params(), some(4)
    method = ewc_pp(3.0, 0.5, 1)
    state = method.init(setting(params, 2))
    state = state._replace(importance=torch.rand(12).double(), anchor=params - 0.2)
    moving = params.clone().requires_grad_()
    value = value_of(method, batch, (), moving, state)[0]
    (whole,) = torch.autograd.grad(value, moving)
    plain_value = value_of(method, batch, (), params, state._replace(anchor=params))[0]
    penalty = 3.0 * (state.importance * 0.04).sum()
    torch.testing.assert_close(value.detach(), plain_value + penalty)
    plain = whole - 2 * 3.0 * state.importance * 0.2
    found = method.after_step(state, whole, params, params)
    torch.testing.assert_close(found.fisher, 0.5 * plain**2)


@pytest.mark.parametrize(("name", "value"), [("strength", -1.0), ("decay", 1.5), ("interval", 0)])
def test_wrong_values_are_refused(name, value):
    good = {"strength": 1.0, "decay": 0.9, "interval": 10}
    with pytest.raises(UserError, match=f"`method.{name}` must be"):
        ewc_pp(**good | {name: value})
