import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.methods.er_ace import er_ace
from tests.methods.small import network, some, some_params, value_of


def test_new_examples_compete_with_the_classes_of_their_batch_alone():
    params, batch, old = some_params(), some(5), some(3, seed=1)
    batch = batch._replace(label=torch.tensor([1, 3, 3, 1, 1]))
    value, calls = value_of(er_ace(), batch, (old,), params, ())
    logits = network(params, 0, batch).logits[:, [1, 3]]
    expected = cross_entropy(logits, (batch.target == 3).long())
    expected += cross_entropy(network(params, 0, old).logits, old.target)
    torch.testing.assert_close(value, expected)
    assert calls == 2


def test_classes_that_are_absent_get_no_gradient_from_new_examples():
    params, batch, old = some_params(), some(5), some(3, weight=[0, 0, 0])
    params.requires_grad_()
    batch = batch._replace(label=torch.tensor([0, 2, 2, 0, 0]))
    value, _ = value_of(er_ace(), batch, (old,), params, ())
    (g,) = torch.autograd.grad(value, params)
    assert (g.view(3, 4)[:, [1, 3]] == 0).all()
    assert (g.view(3, 4)[:, [0, 2]] != 0).all()
