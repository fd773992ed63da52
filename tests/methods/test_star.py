import pytest
import torch

from gradalign_cli.errors import UserError
from gradalign_cli.methods.er import er
from gradalign_cli.methods.star import START, scaled_to_weights, star
from gradalign_cli.models.model import Layer
from gradalign_cli.numerics.noise import normal_numbers
from tests.methods.given import make_setup
from tests.methods.small import make_examples, make_params, method_gradient, network

LAYERS = (Layer(12, 3, False),)
PARAMS, BATCH, MEMORY_BATCH = make_params(), make_examples(5), make_examples(6, 1)


def right_examples(count):
    """A memory batch whose first `count` examples the network has right, and no others."""
    examples = make_examples(8, 2)
    answers = network(PARAMS, 0, examples).logits.argmax(1)
    return examples._replace(target=torch.where(torch.arange(8) < count, answers, 3 - answers))


def gradient(method, star_batch, layers=LAYERS):
    state = method.init(make_setup(PARAMS, 2))
    batches = (MEMORY_BATCH, star_batch)[: method.memory_batches]
    return method_gradient(method, BATCH, batches, PARAMS, state, layers=layers)[0]


def test_the_gradient_at_the_worst_nearby_weights_is_added():
    """One step along the gradient at a random start, as long as gamma times the weights."""
    examples, radius = right_examples(5), 0.1 * PARAMS.norm()
    old = network(PARAMS, 0, examples).logits[:5].softmax(1)

    def divergence_gradient(params):
        leaf = params.clone().requires_grad_()
        log_ratio = old.log() - network(leaf, 0, examples).logits[:5].log_softmax(1)
        return torch.autograd.grad((old * log_ratio).sum(1).mean(), leaf)[0]

    noise = normal_numbers(torch.tensor(0), PARAMS)
    uphill = divergence_gradient(PARAMS + START * radius * noise / noise.norm())
    added = divergence_gradient(PARAMS + radius * uphill / uphill.norm())
    g = gradient(star(0.1, 0.7), examples)
    torch.testing.assert_close(g, gradient(er(), examples) + 0.7 * added)


@pytest.mark.parametrize(("gamma", "strength"), [(0.0, 0.7), (0.1, 0.0)])
def test_without_a_radius_or_a_weight_it_is_er(gamma, strength):
    examples = right_examples(5)
    torch.testing.assert_close(gradient(star(gamma, strength), examples), gradient(er(), examples))


@pytest.mark.parametrize(("count", "differs"), [(0, False), (1, False), (2, True)])
def test_the_term_needs_two_examples_that_the_network_has_right(count, differs):
    examples = right_examples(count)
    added = gradient(star(0.1, 0.7), examples) - gradient(er(), examples)
    assert (added.norm() > 1e-4) == differs


def test_each_matrix_moves_by_a_share_of_its_length_and_nothing_else_moves():
    layers = (Layer(4, 2, True), Layer(3, 0, False), Layer(2, 1, False))
    direction, params = torch.randn(2, 9, generator=torch.Generator().manual_seed(0)).double()
    change = scaled_to_weights(direction, params, layers, torch.tensor(0.3))
    assert not change[2:7].any()
    for part in (slice(0, 2), slice(7, 9)):
        torch.testing.assert_close(change[part].norm(), 0.3 * params[part].norm())
        torch.testing.assert_close(
            change[part] @ direction[part], change[part].norm() * direction[part].norm()
        )


@pytest.mark.parametrize(("values", "text"), [((-1.0, 0.1), "gamma"), ((0.1, -1.0), "strength")])
def test_numbers_out_of_their_domain_are_named(values, text):
    with pytest.raises(UserError, match=f"`method.{text}` must be non-negative"):
        star(*values)
