import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.mer import mer
from tests.methods.given import setting
from tests.methods.small import found_by, gradient_on, one, some, some_params


def derived(method, batch, memories, params):
    return found_by(method, batch, memories, params, method.init(setting(params, 2)))[0]


def after_steps(params, step, *parts):
    """SGD on one example after the other."""
    for part in parts:
        for n in range(len(part.label)):
            params = params - step * gradient_on(one(part, n), params)
    return params


def test_algorithm_1_is_reptile_within_and_across_batches():
    params, current = some_params(), some(1)
    memories = some(4, 1), some(4, 2), some(4, 3)
    step, beta, gamma = 0.2, 0.3, 0.5
    p = params
    for memory in memories:
        p = p + beta * (after_steps(p, step, current, memory) - p)
    expected = params + gamma * (p - params)
    g = derived(mer(3, step, beta, 1.0), current, memories, params)
    torch.testing.assert_close(params - gamma * step * g, expected)


def test_algorithm_7_takes_a_longer_step_on_the_current_example():
    params, current, memory = some_params(), some(1), some(4, 1)
    p = after_steps(after_steps(params, 0.2 * 5, current), 0.2, memory)
    g = derived(mer(1, 0.2, 1.0, 5.0), current, (memory,), params)
    torch.testing.assert_close(params - 0.2 * g, p)


def test_empty_places_take_no_step():
    params, current = some_params(), some(1)
    memory = some(4, 1, weight=[0, 1, 0, 1])
    p = after_steps(params, 0.2, current, one(memory, 1), one(memory, 3))
    g = derived(mer(1, 0.2, 1.0, 1.0), current, (memory,), params)
    torch.testing.assert_close(params - 0.2 * g, p)


def test_small_steps_favour_gradients_in_line():
    """The mean over both orders of two examples is the gradient of L1 + L2 - step / 2 * g1.g2, to
    second order in the step (eq. 6)."""
    params, a, b, step = some_params(), some(1), some(1, 1), 1e-4
    both = [derived(mer(1, step, 1.0, 1.0), x, (y,), params) for x, y in ((a, b), (b, a))]
    leaf = params.clone().requires_grad_()
    logits = [x.images @ leaf.view(3, -1) for x in (a, b)]
    losses = [
        torch.nn.functional.cross_entropy(z, x.target) for z, x in zip(logits, (a, b), strict=True)
    ]
    g1, g2 = (torch.autograd.grad(value, leaf, create_graph=True)[0] for value in losses)
    (aligned,) = torch.autograd.grad(g1 @ g2, leaf, retain_graph=True)
    expected = (g1 + g2).detach() - step / 2 * aligned
    error = sum(both) / 2 - expected
    assert error.norm() < 0.01 * (step / 2 * aligned).norm()


@pytest.mark.parametrize("name", ["batches", "step", "within", "current_factor"])
def test_numbers_out_of_their_domain_are_named(name):
    good = {"batches": 1, "step": 0.1, "within": 1.0, "current_factor": 1.0}
    with pytest.raises(UserError, match=f"`method.{name}` must be positive"):
        mer(**good | {name: 0})
