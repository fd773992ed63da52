"""A linear network on a few examples, small enough to write down its objectives by hand."""

import torch

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.methods.method import LossInputs
from gradalign_cli.models.losses import cross_entropy
from gradalign_cli.models.model import Output
from gradalign_cli.numerics.trees import tree_map
from gradalign_cli.numerics.vectors import autograd_gradient

OUTPUTS = 4


def network(params, statistics, examples):
    """Logits [n, 4] of x [n, 3] under a matrix; counts its calls in the statistics."""
    logits = examples.x @ params.view(3, OUTPUTS)
    return Output(logits, examples.x, statistics + 1)


def some(count, seed=0, weight=None, visible=()):
    """Examples with random labels and random stored logits."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=source, dtype=torch.float64)
    label = torch.randint(0, OUTPUTS, (count,), generator=source)
    stored = torch.randn(count, OUTPUTS, generator=source, dtype=torch.float64)
    weight = torch.ones(count).double() if weight is None else torch.tensor(weight).double()
    return Examples(x, label, visible, weight, stored)


def some_params(seed=0):
    return torch.randn(3 * OUTPUTS, generator=torch.Generator().manual_seed(seed)).double()


def value_of(method, batch, memories, params, state):
    """The objective's value, and how many times the network was asked."""
    trial = LossInputs(network, params, torch.zeros(1), batch, memories)
    value, output = method.objective(trial, state)
    return value, int(output.statistics)


def found_by(method, batch, memories, params, state, objective=None):
    """What a method derives: g, and its state afterwards."""

    def derivative(trial):
        value = objective or method.objective
        taken = autograd_gradient(lambda p: value(trial._replace(params=p), state))
        return taken(trial.params)

    trial = LossInputs(network, params, torch.zeros(1), batch, memories)
    (g, _), after = method.derive(derivative, trial, state)
    return g, after


def gradient_on(examples, params):
    """The gradient [P] of the mean cross-entropy."""
    leaf = params.clone().requires_grad_()
    logits = network(leaf, 0, examples).logits
    return torch.autograd.grad(cross_entropy(logits, examples), leaf)[0]


def one(examples, n):
    """The nth example alone."""
    return tree_map(lambda field: field[n : n + 1], examples)
