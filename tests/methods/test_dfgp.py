import pytest
import torch

from gradalign_cli.benchmarks.examples import concatenate_examples
from gradalign_cli.errors import UserError
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.dfgp import dfgp, draw_shares_and_order
from gradalign_cli.methods.er import er
from gradalign_cli.methods.gpm import gpm
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Layer
from tests.methods.given import make_setup
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    method_gradient,
    network,
)
from tests.methods.test_gpm import three_layer_parts
from tests.runs import make_replicas
from tests.step.test_step import learner_after

GPM_ARGUMENTS = ([0.95], 0.0, 10, "strict", True)
PARAMS, BATCH, NUMBER = make_params(), make_examples(5), torch.tensor(0.3)


def found_gradient(*numbers, batch=BATCH, params=PARAMS):
    """The gradient of DFGP with radius, mixup_radius, mixup_weight and mixup_alpha."""
    method = dfgp(*GPM_ARGUMENTS, *numbers)
    state = method.init(make_setup(params, 2, (Layer(12, 3, False),)))
    return method_gradient(method, batch, (), params, state._replace(random_number=NUMBER))[0]


def mixed_loss(params, shares, label_shares, order, weight, batch=BATCH):
    """The loss in terms of mixup's pairs of images and of labels, with soft labels."""
    images = shares[:, None] * batch.images + (1 - shares)[:, None] * batch.images[order]
    labels = torch.nn.functional.one_hot(batch.target, 4).double()
    soft = label_shares[:, None] * labels + (1 - label_shares)[:, None] * labels[order]
    log_probabilities = network(params, 0, batch._replace(images=images)).logits.log_softmax(1)
    mixed = -(soft * log_probabilities).sum(1).mean()
    return cross_entropy(network(params, 0, batch).logits, batch) + weight * mixed


def gradients_by_hand(params, shares, order, weight):
    leaves = params.clone().requires_grad_(), shares.clone().requires_grad_()
    loss = mixed_loss(*leaves, shares, order, weight)
    return torch.autograd.grad(loss, leaves)


def drawn(alpha):
    shares, order = draw_shares_and_order(NUMBER, 5, alpha)
    return shares.double(), order


def test_the_gradient_is_that_at_the_worst_weights_and_shares():
    shares, order = drawn(3)
    uphill, shares_uphill = gradients_by_hand(PARAMS, shares, order, 0.7)
    worst_params = PARAMS + 0.2 * uphill / uphill.norm()
    worst_shares = (shares + 0.1 * shares_uphill / shares_uphill.norm()).clamp(0, 1)
    expected, _ = gradients_by_hand(worst_params, worst_shares, order, 0.7)
    torch.testing.assert_close(found_gradient(0.2, 0.1, 0.7, 3), expected, rtol=1e-5, atol=1e-6)


def test_shares_that_would_leave_zero_to_one_stop_there():
    shares, order = drawn(1)
    _, shares_uphill = gradients_by_hand(PARAMS, shares, order, 0.7)
    ends = (shares_uphill > 0).double()
    expected, _ = gradients_by_hand(PARAMS, ends, order, 0.7)
    torch.testing.assert_close(found_gradient(0.0, 1e9, 0.7, 1), expected, rtol=1e-5, atol=1e-6)


def test_without_radii_and_mixed_images_it_is_the_gradient():
    expected = cross_entropy_gradient(BATCH, PARAMS)
    torch.testing.assert_close(found_gradient(0.0, 0.0, 0.0, 2), expected)


def test_an_image_mixed_with_one_that_is_alike_counts_as_itself():
    """All partners are equal to the image, so the mixed loss is the loss."""
    batch = make_examples(1)
    expected = 1.5 * cross_entropy_gradient(batch, PARAMS)
    torch.testing.assert_close(found_gradient(0.0, 0.0, 0.5, 2, batch=batch), expected)


def test_a_partner_of_another_task_is_answered_among_its_own_logits():
    """With the logits of the partner's task hidden, its label would have an infinite loss."""
    masks = torch.tensor([[True, True, False, False]] * 3 + [[False, False, True, True]] * 2)
    batch = make_examples(5, visible_logit_mask=masks)
    batch = batch._replace(target=torch.tensor([0, 1, 0, 2, 3]))
    assert found_gradient(0.1, 0.1, 0.7, 2, batch=batch).isfinite().all()


def test_with_another_objective_the_worst_weights_are_those_of_both_losses():
    """With one image, mixing changes nothing: the loss is ER's and half of the batch's."""
    batch, memory_batch, radius = make_examples(1), make_examples(6, 1), 0.2
    method = combine(dfgp(*GPM_ARGUMENTS, radius, 0.0, 0.5, 2), er())
    state = method.init(make_setup(PARAMS, 2, (Layer(12, 3, False),)))
    g, _ = method_gradient(method, batch, (memory_batch,), PARAMS, state)

    def gradient_by_hand(params):
        replayed = cross_entropy_gradient(concatenate_examples(batch, memory_batch), params)
        return replayed + 0.5 * cross_entropy_gradient(batch, params)

    uphill = gradient_by_hand(PARAMS)
    torch.testing.assert_close(g, gradient_by_hand(PARAMS + radius * uphill / uphill.norm()))


def test_training_without_radii_and_mixed_images_is_gpm(tiny):
    both_params = []
    for method in (gpm(*GPM_ARGUMENTS), dfgp(*GPM_ARGUMENTS, 0.0, 0.0, 0.0, 20)):
        parts = three_layer_parts(tiny, method)
        both_params.append(learner_after(parts, make_replicas(parts)[0], 2).params)
    torch.testing.assert_close(*both_params)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-0.1, 0.1, 0.1, 20), "radius` must be non-negative"),
        ((0.1, -0.1, 0.1, 20), "mixup_radius` must be non-negative"),
        ((0.1, 0.1, -0.1, 20), "mixup_weight` must be non-negative"),
        ((0.1, 0.1, 0.1, 0), "mixup_alpha` must be from 1 to 1000"),
        ((0.1, 0.1, 0.1, 1001), "mixup_alpha` must be from 1 to 1000"),
    ],
)
def test_numbers_out_of_their_domain_are_named(numbers, text):
    with pytest.raises(UserError, match=f"`method.{text}"):
        dfgp(*GPM_ARGUMENTS, *numbers)
