from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.vr_mcl import vr_mcl
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, method_gradient


class Step(NamedTuple):
    """The direction of a step, C-MAML's hypergradient, and the hypergradient on the same examples
    at the parameters of the step before."""

    direction: Tensor
    hypergradient: Tensor
    previous_hypergradient: Tensor


def hypergradient(batch, memory_batch, params):
    method = c_maml(0.3)
    state = method.init(make_setup(params, 2))
    return method_gradient(method, batch, (memory_batch,), params, state)[0]


def four_steps(momentum, same_batches):
    params = make_params()
    method = vr_mcl(0.3, momentum)
    state = method.init(make_setup(params, 2))
    previous_params, steps = params, []
    for n in range(4):
        seed = 0 if same_batches else 10 * n
        batch, memory_batch = make_examples(2, seed), make_examples(5, seed + 1)
        direction, state = method_gradient(method, batch, (memory_batch,), params, state)
        hypergradients = [hypergradient(batch, memory_batch, p) for p in (params, previous_params)]
        steps.append(Step(direction, *hypergradients))
        previous_params, params = params, params - 0.1 * direction
    return steps


def test_a_direction_is_the_last_one_corrected_by_the_change_of_the_hypergradient():
    steps = four_steps(0.8, same_batches=False)
    torch.testing.assert_close(steps[0].direction, steps[0].hypergradient)
    for last, step in pairwise(steps):
        correction = 0.8 * (last.direction - step.previous_hypergradient)
        torch.testing.assert_close(step.direction, step.hypergradient + correction)


def test_without_noise_it_is_c_maml():
    for step in four_steps(0.8, same_batches=True):
        torch.testing.assert_close(step.direction, step.hypergradient)


def test_without_momentum_it_is_c_maml():
    for step in four_steps(0.0, same_batches=False):
        torch.testing.assert_close(step.direction, step.hypergradient)


def test_a_momentum_of_one_is_refused():
    with pytest.raises(UserError, match=r"`method.momentum` must be in \[0, 1\)"):
        vr_mcl(0.1, 1.0)
