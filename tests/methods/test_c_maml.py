import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.c_maml import c_maml
from gradalign_cli.methods.er import er
from tests.methods.given import make_setup
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    method_gradient,
    single_example,
)


def gradient_of(method, batch, memory_batch, params):
    state = method.init(make_setup(params, 2))
    return method_gradient(method, batch, (memory_batch,), params, state)[0]


def test_it_is_the_gradient_on_all_examples_after_a_step_on_each_new_example():
    params, batch, memory_batch = make_params(), make_examples(3), make_examples(5, 1)
    lookahead_params = params
    for n in range(3):
        g = cross_entropy_gradient(single_example(batch, n), lookahead_params)
        lookahead_params = lookahead_params - 0.4 * g
    expected = gradient_of(er(), batch, memory_batch, lookahead_params)
    torch.testing.assert_close(gradient_of(c_maml(0.4), batch, memory_batch, params), expected)


def test_with_steps_of_length_zero_it_is_er():
    params, batch, memory_batch = make_params(), make_examples(3), make_examples(5, 1)
    expected = gradient_of(er(), batch, memory_batch, params)
    torch.testing.assert_close(gradient_of(c_maml(0.0), batch, memory_batch, params), expected)


def test_for_small_steps_it_adds_the_curvature_along_the_gradient_of_the_batch():
    """g(p - a h) = g - a H h + O(a^2): the term -a H h brings gradients into line."""
    params, batch, memory_batch = make_params(), make_examples(1), make_examples(5, 1)

    def er_gradient(p):
        return gradient_of(er(), batch, memory_batch, p)

    h = cross_entropy_gradient(batch, params)
    hessian_product = (er_gradient(params + 1e-5 * h) - er_gradient(params - 1e-5 * h)) / 2e-5
    g = gradient_of(c_maml(1e-4), batch, memory_batch, params)
    torch.testing.assert_close(
        (er_gradient(params) - g) / 1e-4, hessian_product, rtol=1e-2, atol=1e-4
    )


def test_a_negative_step_is_refused():
    with pytest.raises(UserError, match=r"`method.lookahead_lr` must be non-negative, found -1"):
        c_maml(-1.0)
