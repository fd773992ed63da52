import pytest
import torch
from torch.nn.functional import one_hot

from gradalign_cli.errors import UserError
from gradalign_cli.methods.cls_er import cls_er, draw_two_events
from gradalign_cli.methods.er import er
from tests.methods.given import make_gradients, make_setup
from tests.methods.small import OUTPUTS, make_examples, make_params, objective_value

PARAMS, BATCH, MEMORY_BATCH = make_params(), make_examples(5), make_examples(6, 1)


def state_with_copies(method, stable, plastic):
    state = method.init(make_setup(PARAMS, 2))
    return state._replace(
        stable=state.stable._replace(params=stable), plastic=state.plastic._replace(params=plastic)
    )


def copies_after_steps(method, numbers, path):
    """The stable and the plastic parameters [P] after steps with these random numbers, along a path
    of parameters."""
    state = method.init(make_setup(path[0], 2))
    for number, before, after in zip(numbers, path, path[1:], strict=False):
        gradients = make_gradients(before, before.new_zeros(0, len(before)))
        gradients = gradients._replace(random_numbers=before.new_tensor([number]))
        _, state = method.align(gradients, state)
        state = method.after_step(state, before, before, after)
    return state.stable.params, state.plastic.params


def test_the_logits_of_the_copy_that_is_surer_of_the_right_class_are_the_goal():
    method = cls_er(0.3, 0.7, 0.9, 0.9, 0.9)
    stable, plastic = make_params(1), make_params(2)
    distance, taken = 0.0, set()
    for image, target in zip(MEMORY_BATCH.images, MEMORY_BATCH.target, strict=True):
        logits = [image @ p.view(3, OUTPUTS) for p in (stable, plastic)]
        better = max((0, 1), key=lambda n: logits[n].softmax(0) @ one_hot(target, OUTPUTS).double())
        taken.add(better)
        distance += (image @ PARAMS.view(3, OUTPUTS) - logits[better]).square().mean() / 6
    assert taken == {0, 1}
    state = state_with_copies(method, stable, plastic)
    value, _ = objective_value(method, BATCH, (MEMORY_BATCH,), PARAMS, state)
    er_value, _ = objective_value(er(), BATCH, (MEMORY_BATCH,), PARAMS, ())
    torch.testing.assert_close(value, er_value + 0.3 * distance)


@pytest.mark.parametrize("consistency", [0.0, 0.3])
def test_without_weight_or_with_copies_at_the_network_it_is_er(consistency):
    method = cls_er(consistency, 0.7, 0.9, 0.9, 0.9)
    copy = PARAMS if consistency else make_params(1)
    state = state_with_copies(method, copy, copy)
    value, _ = objective_value(method, BATCH, (MEMORY_BATCH,), PARAMS, state)
    torch.testing.assert_close(value, objective_value(er(), BATCH, (MEMORY_BATCH,), PARAMS, ())[0])


def test_the_copies_are_plain_means_at_first_and_then_forget():
    path = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    stable, plastic = copies_after_steps(cls_er(0.1, 1.0, 1.0, 1.0, 0.5), [0.5] * 4, path)
    torch.testing.assert_close(stable, path.mean(0))
    weights = torch.tensor([1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]).double()
    torch.testing.assert_close(plastic, weights @ path)


def test_a_copy_moves_in_the_share_of_steps_that_its_frequency_says():
    path = torch.tensor([[0.0], [1.0]]).double()
    stable, plastic = copies_after_steps(cls_er(0.1, 0.0, 0.9, 1.0, 0.9), [0.5], path)
    assert stable == 0
    assert plastic == 0.5
    uniform = (torch.arange(10_000).double() + 0.5) / 10_000
    first, second = draw_two_events(uniform, torch.tensor(0.9), torch.tensor(0.7))
    means = torch.stack([first, second, first & second]).double().mean(1)
    torch.testing.assert_close(means, torch.tensor([0.9, 0.7, 0.63]).double(), atol=3e-4, rtol=0)


def test_the_stable_copy_is_tested():
    method = cls_er(0.1, 0.7, 0.9, 0.9, 0.9)
    state = state_with_copies(method, make_params(1), make_params(2))
    assert torch.equal(method.test_params(state, PARAMS, 0, ()), make_params(1))


def test_numbers_out_of_their_domain_are_named():
    with pytest.raises(UserError, match=r"`method.consistency` must be non-negative"):
        cls_er(-1.0, 0.7, 0.9, 0.9, 0.9)
    with pytest.raises(UserError, match=r"`method.plastic_frequency` must be in \[0, 1\]"):
        cls_er(0.1, 0.7, 0.9, 1.9, 0.9)
