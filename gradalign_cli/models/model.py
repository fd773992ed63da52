"""What a model is: pure functions of a flat parameter vector and a flat vector of statistics."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.numerics.trees import Absent


class Output(NamedTuple):
    """logits: [n, outputs];  features: [n, F] before the last layer;  statistics: [S] after."""

    logits: Tensor
    features: Tensor
    statistics: Tensor


class Layer(NamedTuple):
    """A part of the flat vector of parameters: size entries, the first of them a matrix with `rows`
    rows (0: no matrix), then a bias of `rows` entries where there is one."""

    size: int
    matrix_rows: int
    has_bias: bool


Network = Callable[[Tensor, Tensor, Examples], Output]  # of params [P] and statistics [S]


class Model(NamedTuple):
    """init: (generator) -> params [P];  statistics: [S] running statistics of BatchNorm at first;
    apply: (params, statistics, x, training, noise) -> Output, where training uses the batch's
    statistics and returns updated running ones, and noise [n] are the keys of what is random about
    each example, absent where nothing is;  convolutional: whether batching over replicas would make
    grouped convolutions of it;  layers: the parts of the flat vector, in order;  inputs: (params,
    statistics, x) -> what each layer with a matrix multiplies [n, columns], or None where the model
    does not tell;  noisy: whether training needs noise.
    """

    init: Callable[[Generator], Tensor]
    initial_statistics: Tensor
    apply: Callable[[Tensor, Tensor, Tensor, bool, Tensor | Absent], Output]
    convolutional: bool
    layers: tuple[Layer, ...]
    layer_inputs: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]] | None = None
    needs_noise: bool = False


def kaiming_uniform(shape: tuple[int, ...], fan_in: int, source: Generator) -> Tensor:
    """PyTorch's default for linear and convolutional layers: uniform within 1 / sqrt(fan_in)."""
    spread: Tensor = 2 * torch.rand(shape, generator=source) - 1
    return spread / math.sqrt(fan_in)
