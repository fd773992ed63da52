import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.er import er
from gradalign_cli.methods.mir import mir
from gradalign_cli.numerics.trees import tree_map
from tests.methods.given import make_setup
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    method_gradient,
    network,
)

STEP = 0.7


def gradient_of(method, batch, memory_batch, params):
    state = method.init(make_setup(params, 2))
    return method_gradient(method, batch, (memory_batch,), params, state)[0]


def losses(examples, params):
    logits = network(params, 0, examples).logits
    return torch.nn.functional.cross_entropy(logits, examples.target, reduction="none")


@pytest.mark.parametrize("replayed_examples", [1, 3])
def test_the_examples_whose_loss_would_grow_most_are_replayed(replayed_examples):
    for seed in range(5):
        params, batch = make_params(seed), make_examples(4, seed)
        memory_batch = make_examples(9, seed + 50)
        lookahead_params = params - STEP * cross_entropy_gradient(batch, params)
        growth = losses(memory_batch, lookahead_params) - losses(memory_batch, params)
        largest = growth.argsort(descending=True)[:replayed_examples]
        replayed = tree_map(lambda field, rows=largest: field[rows], memory_batch)
        expected = gradient_of(er(), batch, replayed, params)
        g = gradient_of(mir(replayed_examples, STEP), batch, memory_batch, params)
        torch.testing.assert_close(g, expected)


@pytest.mark.parametrize("replayed_examples", [6, 10])
def test_with_all_candidates_chosen_it_is_er(replayed_examples):
    params, batch = make_params(), make_examples(4)
    memory_batch = make_examples(6, 1, valid=[1, 1, 0, 1, 0, 1])
    expected = gradient_of(er(), batch, memory_batch, params)
    g = gradient_of(mir(replayed_examples, STEP), batch, memory_batch, params)
    torch.testing.assert_close(g, expected)


def test_examples_that_are_not_valid_are_chosen_last():
    params, batch = make_params(), make_examples(4)
    memory_batch = make_examples(6, 1, valid=[1, 1, 0, 1, 0, 1])
    expected = gradient_of(er(), batch, memory_batch, params)
    g = gradient_of(mir(4, STEP), batch, memory_batch, params)
    torch.testing.assert_close(g, expected)


@pytest.mark.parametrize(
    ("replayed_examples", "lookahead_lr", "name"),
    [(0, 0.1, "replayed_examples"), (3, 0.0, "lookahead_lr")],
)
def test_numbers_out_of_their_domain_are_named(replayed_examples, lookahead_lr, name):
    with pytest.raises(UserError, match=f"`method.{name}` must be positive"):
        mir(replayed_examples, lookahead_lr)
