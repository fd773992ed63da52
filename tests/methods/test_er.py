import torch

from gradalign_cli.methods.er import er
from tests.methods.small import make_examples, make_params, network, objective_value


def example_losses(params, examples):
    logits = network(params, 0, examples).logits
    return torch.nn.functional.cross_entropy(logits, examples.target, reduction="none")


def test_the_objective_is_the_mean_over_new_and_stored_examples():
    params, batch, memory_batch = make_params(), make_examples(2), make_examples(3, seed=1)
    value, _ = objective_value(er(), batch, (memory_batch,), params, ())
    losses = torch.cat([example_losses(params, batch), example_losses(params, memory_batch)])
    torch.testing.assert_close(value, losses.mean())


def test_examples_that_are_not_valid_do_not_count():
    params, batch = make_params(), make_examples(1)
    memory_batch = make_examples(2, seed=1, valid=[1, 0])
    value, _ = objective_value(er(), batch, (memory_batch,), params, ())
    losses = torch.cat([example_losses(params, batch), example_losses(params, memory_batch)[:1]])
    torch.testing.assert_close(value, losses.mean())
    empty_batch = memory_batch._replace(valid=torch.zeros(2).double())
    value, _ = objective_value(er(), batch, (empty_batch,), params, ())
    torch.testing.assert_close(value, losses[0])
