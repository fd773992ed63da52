"""The arguments of a method's functions, made without a network."""

from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.methods.method import MethodSetup


def make_setup(params, tasks, layers=(), outputs=2):
    """The `MethodSetup` of a network with these parameters."""
    return MethodSetup(params, tasks, outputs, layers)


def align(method, g, references, **options):
    """The direction [P] of a method in its initial state; options: those of `make_gradients`."""
    gradients = make_gradients(g, references, **options)
    return method.align(gradients, method.init(make_setup(g, len(references) + 1)))[0]
