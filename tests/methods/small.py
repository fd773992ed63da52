"""A linear network and a few examples, small enough to write down objectives by hand."""

import torch

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.methods.method import LossInputs
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.numerics.vectors import autograd_gradient_and_value

OUTPUTS = 4


def network(params, statistics, examples):
    """Logits [n, 4] of images [n, 3] under a matrix; the statistics count its calls."""
    logits = examples.images @ params.view(3, OUTPUTS)
    return Output(logits, examples.images, statistics + 1)


def make_examples(count, seed=0, valid=None, visible_logit_mask=()):
    """Examples with random targets and random stored logits."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(0, OUTPUTS, (count,), generator=generator)
    stored_logits = torch.randn(count, OUTPUTS, generator=generator, dtype=torch.float64)
    valid = torch.ones(count).double() if valid is None else torch.tensor(valid).double()
    return Examples(images, target, visible_logit_mask, valid, stored_logits)


def make_params(seed=0):
    """Random parameters [12] of `network`."""
    return torch.randn(3 * OUTPUTS, generator=torch.Generator().manual_seed(seed)).double()


def objective_value(method, batch, memory_batches, params, state):
    """The objective's value, and how many times it called the network."""
    inputs = LossInputs(network, params, torch.zeros(1), batch, memory_batches)
    value, output = method.objective(inputs, state)
    return value, int(output.statistics)


def method_gradient(method, batch, memory_batches, params, state, objective=None, layers=()):
    """The gradient [P] that a method finds, and its state afterwards; objective: one to take
    gradients of in place of the method's."""

    def take_gradient(inputs, chosen=objective or method.objective):
        gradient = autograd_gradient_and_value(lambda p: chosen(inputs._replace(params=p), state))
        return gradient(inputs.params)

    inputs = LossInputs(network, params, torch.zeros(1), batch, memory_batches, layers)
    (g, _), state_after = method.find_gradient(take_gradient, inputs, state)
    return g, state_after


def cross_entropy_gradient(examples, params):
    """The gradient [P] of the mean cross-entropy."""
    leaf = params.clone().requires_grad_()
    logits = network(leaf, 0, examples).logits
    return torch.autograd.grad(cross_entropy(logits, examples), leaf)[0]


def single_example(examples, number):
    """One of several examples, as a batch of one."""
    return tree_map(lambda field: field[number : number + 1], examples)
