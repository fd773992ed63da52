from itertools import pairwise

import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.vr_mcl import vr_mcl
from tests.methods.given import setting
from tests.methods.small import found_by, some, some_params


def hypergradient(batch, memory, params):
    method = c_maml(0.3)
    return found_by(method, batch, (memory,), params, method.init(setting(params, 2)))[0]


def walk(momentum, same_batches):
    """Directions over four steps, the hypergradient at each, and that of the step before anew."""
    params = some_params()
    method = vr_mcl(0.3, momentum)
    state = method.init(setting(params, 2))
    before, found = params, []
    for n in range(4):
        seed = 0 if same_batches else 10 * n
        batch, memory = some(2, seed), some(5, seed + 1)
        d, state = found_by(method, batch, (memory,), params, state)
        here, there = (hypergradient(batch, memory, p) for p in (params, before))
        found.append((d, here, there))
        before, params = params, params - 0.1 * d
    return found


def test_each_estimate_is_the_last_one_moved_by_how_the_hypergradient_moved():
    found = walk(0.8, same_batches=False)
    torch.testing.assert_close(found[0][0], found[0][1])
    for (old, *_), (d, here, there) in pairwise(found):
        torch.testing.assert_close(d, here + 0.8 * (old - there))


def test_without_noise_it_is_c_maml():
    for d, here, _ in walk(0.8, same_batches=True):
        torch.testing.assert_close(d, here)


def test_without_momentum_it_is_c_maml():
    for d, here, _ in walk(0.0, same_batches=False):
        torch.testing.assert_close(d, here)


def test_momentum_of_one_would_never_forget_and_is_refused():
    with pytest.raises(UserError, match=r"`method.momentum` must be in \[0, 1\)"):
        vr_mcl(0.1, 1.0)
