"""What a model is: pure functions of a flat parameter vector and a flat vector of statistics."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gradalign_cli.benchmarks.benchmark import Examples


class Output(NamedTuple):
    """logits: [n, outputs];  features: [n, F] before the last layer;  statistics: [S] after."""

    logits: Tensor
    features: Tensor
    statistics: Tensor


Network = Callable[[Tensor, Tensor, Examples], Output]  # of params [P] and statistics [S]


class Model(NamedTuple):
    """init: (generator) -> params [P];  statistics: [S] running statistics of BatchNorm at first;
    apply: (params, statistics, x, training) -> Output, where training uses the batch's statistics
    and returns updated running ones;  convolutional: whether batching over replicas would make
    grouped convolutions of it;  layers: how many entries of a flat vector each layer has, in order.
    """

    init: Callable[[Generator], Tensor]
    statistics: Tensor
    apply: Callable[[Tensor, Tensor, Tensor, bool], Output]
    convolutional: bool
    layers: tuple[int, ...]


def kaiming_uniform(shape: tuple[int, ...], fan_in: int, source: Generator) -> Tensor:
    """PyTorch's default for linear and convolutional layers: uniform within 1 / sqrt(fan_in)."""
    spread: Tensor = 2 * torch.rand(shape, generator=source) - 1
    return spread / math.sqrt(fan_in)
