"""What a row of docs/methods.md must say, taken from the method itself."""

import torch

from gradalign_cli.methods.method import LossInputs, MethodSetup
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.model import Layer, Output
from gradalign_cli.numerics.trees import tree_leaves
from tests.methods import small
from tests.methods.small import make_examples, make_params, network

TASKS, OUTPUTS, MEMORY_EXAMPLES = 10, 10, 1000


def backward_passes(method, batch_size, memory_batch_size):
    """Backward passes a step beside the one on the batch."""
    if method.references != "nothing":
        return {"pooled": 1, "one_task": 1, "per_task": TASKS}[method.references]
    return gradients_taken(method, batch_size, memory_batch_size) - 1


def gradients_taken(method, batch_size, memory_batch_size):
    """How many gradients `find_gradient` takes, counted."""
    passes = []

    def take_gradient(inputs):
        output = Output(inputs.batch.stored_logits, inputs.batch.images, inputs.statistics)
        passes.append(inputs)
        return inputs.params, (inputs.params[0], output)

    params = make_params()
    layers = (Layer(len(params), small.OUTPUTS, False),)
    memory_batches = (make_examples(memory_batch_size),) * method.memory_batches
    batch = make_examples(batch_size)
    inputs = LossInputs(network, params, params[:0], batch, memory_batches, layers)
    state = method.init(MethodSetup(params, TASKS, small.OUTPUTS, layers))
    method.find_gradient(take_gradient, inputs, state)
    return len(passes)


def state_bytes(method):
    """Bytes of a method's state and stored logits, as text, for the network and memory that
    docs/methods.md names; "grows" where a tensor of the state is empty at first."""
    model = mlp([256, 256], "torch", True, (1, 28, 28), OUTPUTS)
    params = torch.empty(sum(layer.size for layer in model.layers), device="meta")
    tensors = tree_leaves(method.init(MethodSetup(params, TASKS, OUTPUTS, model.layers)))
    if not all(tensor.numel() for tensor in tensors):
        return "grows"
    logits = method.stores_logits * MEMORY_EXAMPLES * OUTPUTS * params.element_size()
    return format_bytes(logits + sum(t.numel() * t.element_size() for t in tensors))


def format_bytes(count):
    """A number of bytes with at least two digits, such as "8.0 M"."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            number = count / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return str(count)
