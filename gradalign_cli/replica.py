"""A replica: one of the runs trained together, and its untrained learner on a device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from gradalign_cli.benchmarks.benchmark import Stream
from gradalign_cli.draws import generator
from gradalign_cli.engines.engine import CPU
from gradalign_cli.learner import Learner, Parts
from gradalign_cli.methods.method import Method, Setting
from gradalign_cli.trees import tree_map


class Replica(NamedTuple):
    """One of the runs trained together: its seed, step size, method and tasks."""

    seed: int
    lr: float
    method: Method
    stream: Stream


def put(tree: Any, device: torch.device) -> Any:
    """A tree of tensors on a device."""
    return tree_map(lambda tensor: tensor.to(device), tree)


def default(device: torch.device) -> AbstractContextManager[Any]:
    """Where tensors are made that name no device; on a CPU saying so would cost every operation."""
    return nullcontext() if device == CPU else device


def new_learner(parts: Parts, replica: Replica, device: torch.device = CPU) -> Learner:
    """An untrained network, drawn from the replica's seed, with an empty memory."""
    params = parts.model.init(generator(replica.seed, "network")).to(device)
    setting = Setting(params, parts.benchmark.tasks, parts.benchmark.outputs, parts.model.layers)
    with default(device):
        memory = parts.buffer.init()
        stored = params.new_zeros(len(memory.row), parts.benchmark.outputs * parts.method.stores)
        return Learner(
            params,
            parts.model.statistics.to(device),
            parts.optimizer.init(params),
            replica.method.init(setting),
            memory._replace(stored=stored),
        )
