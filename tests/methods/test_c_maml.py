import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.er import er
from tests.methods.given import setting
from tests.methods.small import found_by, gradient_on, one, some, some_params


def derived(method, batch, memory, params):
    return found_by(method, batch, (memory,), params, method.init(setting(params, 2)))[0]


def test_it_is_the_gradient_on_all_where_a_step_on_each_example_leads():
    params, batch, memory = some_params(), some(3), some(5, 1)
    there = params
    for n in range(3):
        there = there - 0.4 * gradient_on(one(batch, n), there)
    expected = derived(er(), batch, memory, there)
    torch.testing.assert_close(derived(c_maml(0.4), batch, memory, params), expected)


def test_with_steps_of_no_length_it_is_er():
    params, batch, memory = some_params(), some(3), some(5, 1)
    expected = derived(er(), batch, memory, params)
    torch.testing.assert_close(derived(c_maml(0.0), batch, memory, params), expected)


def test_for_small_steps_it_adds_the_curvature_along_the_batch():
    """g(p - a h) = g - a H h + O(a^2): what brings gradients into line."""
    params, batch, memory = some_params(), some(1), some(5, 1)

    def mean_gradient(p):
        return derived(er(), batch, memory, p)

    h = gradient_on(batch, params)
    curved = (mean_gradient(params + 1e-5 * h) - mean_gradient(params - 1e-5 * h)) / 2e-5
    found = derived(c_maml(1e-4), batch, memory, params)
    torch.testing.assert_close((mean_gradient(params) - found) / 1e-4, curved, rtol=1e-2, atol=1e-4)


def test_a_negative_step_is_refused():
    with pytest.raises(UserError, match=r"`method.step` must be non-negative, found -1"):
        c_maml(-1.0)
