"""What a row of docs/methods.md must say, taken from the method itself."""

import torch

from gradalign_cli.methods.method import LossInputs, MethodSetup
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.model import Layer, Output
from gradalign_cli.numerics.trees import tree_leaves, tree_map
from tests.methods.small import network, some, some_params

TASKS, OUTPUTS, EXAMPLES = 10, 10, 1000


def passes(made, batch, memory):
    """Backward passes a step beside the one on the batch, for batches of the given sizes."""
    if made.references != "nothing":
        return {"pooled": 1, "one_task": 1, "per_task": TASKS}[made.references]
    taken = []

    def derivative(trial):
        output = Output(trial.batch.stored, trial.batch.x, trial.statistics)
        taken.append(trial)
        return trial.params, (trial.params[0], output)

    params = some_params()
    layers = (Layer(len(params), 3, False),)
    memories = (some(memory),) * made.memory_batches
    trial = LossInputs(network, params, params[:0], some(batch), memories, layers)
    made.derive(derivative, trial, made.init(MethodSetup(params, TASKS, OUTPUTS, layers)))
    return len(taken) - 1


def size(made):
    """Bytes of what a method keeps, for the network and memory that docs/methods.md names; "grows"
    where there is something that is empty at first."""
    network = mlp([256, 256], "torch", True, (1, 28, 28), OUTPUTS)
    params = torch.empty(sum(layer.size for layer in network.layers), device="meta")
    found = [made.stores_logits * EXAMPLES * OUTPUTS * params.element_size()]
    state = made.init(MethodSetup(params, TASKS, OUTPUTS, network.layers))
    tree_map(lambda t: found.append(t.numel() * t.element_size()), state)
    return short(sum(found)) if all(t.numel() for t in tree_leaves(state)) else "grows"


def short(count):
    """A number of bytes in two digits or more."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            number = count / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return str(count)
