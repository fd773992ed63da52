import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.er import er
from gradalign_cli.methods.mir import mir
from gradalign_cli.numerics.trees import tree_map
from tests.methods.given import setting
from tests.methods.small import found_by, gradient_on, one, some, some_params

STEP = 0.7


def derived(method, batch, memory, params):
    return found_by(method, batch, (memory,), params, method.init(setting(params, 2)))[0]


def loss(examples, params):
    logits = examples.x @ params.view(3, -1)
    return torch.nn.functional.cross_entropy(logits, examples.label)


def test_those_whose_loss_would_grow_most_are_replayed():
    for seed in range(5):
        params, batch, memory = some_params(seed), some(4, seed), some(9, seed + 50)
        there = params - STEP * gradient_on(batch, params)
        growth = [loss(one(memory, n), there) - loss(one(memory, n), params) for n in range(9)]
        worst = torch.stack(growth).argsort(descending=True)[:3]
        found = derived(mir(3, STEP), batch, memory, params)
        chosen = tree_map(lambda field, worst=worst: field[worst], memory)
        expected = derived(er(), batch, chosen, params)
        torch.testing.assert_close(found, expected)


def test_with_as_many_chosen_as_read_it_is_er():
    params, batch, memory = some_params(), some(4), some(6, 1, weight=[1, 1, 0, 1, 0, 1])
    expected = derived(er(), batch, memory, params)
    for chosen in (6, 10):
        torch.testing.assert_close(derived(mir(chosen, STEP), batch, memory, params), expected)


def test_empty_places_are_chosen_last():
    params, batch, memory = some_params(), some(4), some(6, 1, weight=[1, 1, 0, 1, 0, 1])
    expected = derived(er(), batch, memory, params)
    torch.testing.assert_close(derived(mir(4, STEP), batch, memory, params), expected)


@pytest.mark.parametrize(("chosen", "step", "name"), [(0, 0.1, "chosen"), (3, 0.0, "step")])
def test_numbers_out_of_their_domain_are_named(chosen, step, name):
    with pytest.raises(UserError, match=f"`method.{name}` must be positive"):
        mir(chosen, step)
