import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.methods.er_ace import er_ace
from tests.methods.small import make_examples, make_params, network, objective_value


def test_new_examples_compete_only_with_the_classes_of_their_batch():
    params, batch, memory_batch = make_params(), make_examples(5), make_examples(3, seed=1)
    batch = batch._replace(target=torch.tensor([1, 3, 3, 1, 1]))
    value, calls = objective_value(er_ace(), batch, (memory_batch,), params, ())
    logits = network(params, 0, batch).logits[:, [1, 3]]
    expected = cross_entropy(logits, (batch.target == 3).long())
    expected += cross_entropy(network(params, 0, memory_batch).logits, memory_batch.target)
    torch.testing.assert_close(value, expected)
    assert calls == 2


def test_classes_that_are_not_in_the_batch_get_no_gradient_from_new_examples():
    params, batch, empty_batch = make_params(), make_examples(5), make_examples(3, valid=[0, 0, 0])
    params.requires_grad_()
    batch = batch._replace(target=torch.tensor([0, 2, 2, 0, 0]))
    value, _ = objective_value(er_ace(), batch, (empty_batch,), params, ())
    (g,) = torch.autograd.grad(value, params)
    assert (g.view(3, 4)[:, [1, 3]] == 0).all()
    assert (g.view(3, 4)[:, [0, 2]] != 0).all()
