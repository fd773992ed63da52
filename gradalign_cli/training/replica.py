"""A replica: one of the runs trained together, and its untrained learner on a device."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Stream
from gradalign_cli.methods.method import Method, MethodSetup
from gradalign_cli.numerics.devices import CPU, default_device
from gradalign_cli.numerics.generators import generator
from gradalign_cli.step.learner import Learner, Parts


class Replica(NamedTuple):
    """One of the runs trained together: seed, step size, method with its numbers, stream."""

    seed: int
    lr: float
    method: Method
    stream: Stream


def method_setup(parts: Parts, params: Tensor) -> MethodSetup:
    """What the initial state of the parts' method is made of, with these parameters [P]."""
    benchmark, model = parts.benchmark, parts.model
    has_layer_inputs = model.layer_inputs is not None
    return MethodSetup(params, benchmark.tasks, benchmark.outputs, model.layers, has_layer_inputs)


def new_learner(parts: Parts, replica: Replica, device: torch.device = CPU) -> Learner:
    """An untrained learner: a network drawn from the replica's seed, and an empty memory."""
    params = parts.model.init(generator(replica.seed, "network")).to(device)
    setup = method_setup(parts, params)
    with default_device(device):
        memory = parts.buffer.init()
        stored_logits = params.new_zeros(
            len(memory.rows), parts.benchmark.outputs * parts.method.stores_logits
        )
        return Learner(
            params,
            parts.model.initial_statistics.to(device),
            parts.optimizer.init(params),
            replica.method.init(setup),
            memory._replace(stored_logits=stored_logits),
        )
