import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mer import mer
from tests.methods.given import make_setup
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    method_gradient,
    single_example,
)


def mer_gradient(method, batch, memory_batches, params):
    return method_gradient(
        method, batch, memory_batches, params, method.init(make_setup(params, 2))
    )[0]


def sgd_by_example(params, step, *batches):
    """The parameters after SGD on one example after the other."""
    for batch in batches:
        for n in range(len(batch.target)):
            params = params - step * cross_entropy_gradient(single_example(batch, n), params)
    return params


def test_algorithm_1_is_reptile_within_and_across_batches():
    params, new_example = make_params(), make_examples(1)
    memory_batches = make_examples(4, 1), make_examples(4, 2), make_examples(4, 3)
    step, beta, gamma = 0.2, 0.3, 0.5
    p = params
    for memory_batch in memory_batches:
        p = p + beta * (sgd_by_example(p, step, new_example, memory_batch) - p)
    expected = params + gamma * (p - params)
    g = mer_gradient(mer(3, step, beta, 1.0), new_example, memory_batches, params)
    torch.testing.assert_close(params - gamma * step * g, expected)


def test_algorithm_7_takes_a_longer_step_on_the_new_example():
    params, new_example, memory_batch = make_params(), make_examples(1), make_examples(4, 1)
    p = sgd_by_example(params, 0.2 * 5, new_example)
    p = sgd_by_example(p, 0.2, memory_batch)
    g = mer_gradient(mer(1, 0.2, 1.0, 5.0), new_example, (memory_batch,), params)
    torch.testing.assert_close(params - 0.2 * g, p)


def test_examples_that_are_not_valid_take_no_step():
    params, new_example = make_params(), make_examples(1)
    memory_batch = make_examples(4, 1, valid=[0, 1, 0, 1])
    valid_examples = single_example(memory_batch, 1), single_example(memory_batch, 3)
    p = sgd_by_example(params, 0.2, new_example, *valid_examples)
    g = mer_gradient(mer(1, 0.2, 1.0, 1.0), new_example, (memory_batch,), params)
    torch.testing.assert_close(params - 0.2 * g, p)


def test_small_steps_favour_gradients_in_line():
    """The mean over both orders of two examples is the gradient of L1 + L2 - step / 2 * g1.g2, to
    second order in the step (eq. 6)."""
    params, a, b, step = make_params(), make_examples(1), make_examples(1, 1), 1e-4
    g_ab, g_ba = (
        mer_gradient(mer(1, step, 1.0, 1.0), first, (second,), params)
        for first, second in ((a, b), (b, a))
    )
    leaf = params.clone().requires_grad_()
    logits = [x.images @ leaf.view(3, -1) for x in (a, b)]
    losses = [
        torch.nn.functional.cross_entropy(z, x.target) for z, x in zip(logits, (a, b), strict=True)
    ]
    g1, g2 = (torch.autograd.grad(loss, leaf, create_graph=True)[0] for loss in losses)
    (dot_gradient,) = torch.autograd.grad(g1 @ g2, leaf, retain_graph=True)
    expected = (g1 + g2).detach() - step / 2 * dot_gradient
    error = (g_ab + g_ba) / 2 - expected
    assert error.norm() < 0.01 * (step / 2 * dot_gradient).norm()


def test_a_gamma_above_1_is_warned_of_and_a_gamma_of_1_is_not():
    method = mer(1, 0.1, 1.0, 1.0)
    assert method.step_size_warning(0.1) == method.step_size_warning(0.05) == ""
    assert "`replicas.lr` / `method.inner_lr`, is above 1" in method.step_size_warning(0.11)


@pytest.mark.parametrize("name", ["batches", "inner_lr", "within", "current_factor"])
def test_numbers_out_of_their_domain_are_named(name):
    settings = {"batches": 1, "inner_lr": 0.1, "within": 1.0, "current_factor": 1.0}
    with pytest.raises(UserError, match=f"`method.{name}` must be positive"):
        mer(**settings | {name: 0})
