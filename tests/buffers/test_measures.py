import pytest
import torch
from torch.nn.functional import cosine_similarity

from gradalign_cli.buffers.measures import GRADIENTS_AT_ONCE, measure_cosines, measure_losses
from gradalign_cli.models.mlp import mlp
from gradalign_cli.step.learner import make_network
from tests.methods.small import (
    cross_entropy_gradient,
    make_examples,
    make_params,
    network,
    single_example,
)


def test_cosines_are_those_of_the_gradients_of_single_examples():
    arrivals, stored = make_examples(2 * GRADIENTS_AT_ONCE + 3, 0), make_examples(4, 1)
    params = make_params()
    cosines, batch_gradient_cosines = measure_cosines(
        network, None, params, torch.zeros(1), arrivals, stored
    )

    def sample_gradients(examples):
        count = len(examples.target)
        return torch.stack(
            [cross_entropy_gradient(single_example(examples, n), params) for n in range(count)]
        )

    expected = cosine_similarity(sample_gradients(arrivals)[:, None], sample_gradients(stored), -1)
    torch.testing.assert_close(cosines, expected)
    mean_gradient = cross_entropy_gradient(arrivals, params)
    expected = cosine_similarity(mean_gradient, sample_gradients(stored), -1)
    torch.testing.assert_close(batch_gradient_cosines, expected)


@pytest.mark.parametrize("bias", [True, False])
def test_cosines_from_factored_gradients_are_those_of_whole_gradients(bias):
    model = mlp([6, 5], "torch", bias, (1, 1, 3), 4)
    params = model.init(torch.Generator().manual_seed(0)).double()
    visible_logit_mask = torch.rand(7, 4, generator=torch.Generator().manual_seed(1)) < 0.7
    arrivals, stored = make_examples(7, 0), make_examples(4, 1, valid=[1, 0, 1, 1])
    visible_logit_mask.scatter_(1, arrivals.target[:, None], True)
    arrivals = arrivals._replace(visible_logit_mask=visible_logit_mask)
    inputs = params, torch.zeros(0), arrivals, stored
    network = make_network(model, training=False)
    expected = measure_cosines(network, None, *inputs)
    torch.testing.assert_close(
        measure_cosines(network, model.factored_gradients, *inputs), expected
    )
    assert torch.equal(expected.of_batch == 0, stored.valid == 0)


def test_losses_are_those_of_single_examples():
    arrivals, stored, params = make_examples(5, 0), make_examples(3, 1), make_params()
    losses = torch.cat(measure_losses(network, params, torch.zeros(1), arrivals, stored))
    expected = []
    for examples in (arrivals, stored):
        logits = network(params, 0, examples).logits
        expected.append(logits.logsumexp(1) - logits.gather(1, examples.target[:, None])[:, 0])
    torch.testing.assert_close(losses, torch.cat(expected))


def test_padding_has_loss_0_and_cosine_0_even_if_its_label_is_hidden():
    visible_logit_mask = torch.ones(3, 4, dtype=torch.bool)
    stored = make_examples(3, 1, valid=[1, 0, 1], visible_logit_mask=visible_logit_mask)
    visible_logit_mask[1, stored.target[1]] = False
    arrivals = make_examples(2, 0, visible_logit_mask=torch.ones(2, 4, dtype=torch.bool))
    inputs = make_params(), torch.zeros(1), arrivals, stored
    cosines = measure_cosines(network, None, *inputs).of_each_arrival
    for of_stored in (measure_losses(network, *inputs).of_stored, cosines.T):
        assert torch.isfinite(of_stored).all()
        assert not of_stored[1].any()
        assert of_stored[0].any()
