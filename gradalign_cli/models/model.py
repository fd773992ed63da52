"""The contract of a model: pure functions of a flat vector of parameters, in a `Model`."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.numerics.trees import Absent


class Output(NamedTuple):
    """What a network returns for n examples.

    logits:     [n, outputs].
    features:   [n, F] the inputs of the last layer.
    statistics: [S] the running statistics of BatchNorm after this pass.
    """

    logits: Tensor
    features: Tensor
    statistics: Tensor


class Layer(NamedTuple):
    """A part of the flat vector of parameters: the entries of a matrix, then those of a bias.

    size:        the number of entries.
    matrix_rows: the number of rows of the matrix; the kernels of a convolution are a matrix with a
                 row for each filter. 0 where the part has no matrix (BatchNorm).
    has_bias:    whether a bias of `matrix_rows` entries follows the matrix.
    """

    size: int
    matrix_rows: int
    has_bias: bool


class FactoredGradients(NamedTuple):
    """The gradients of n examples in a layer, each an outer product: of example k
    `output_gradients[k] ⊗ inputs[k]`.

    inputs:           [n, columns] with a column of ones after them where the layer has a bias.
    output_gradients: [n, rows] the gradients of the losses by the layer's outputs.
    """

    inputs: Tensor
    output_gradients: Tensor


StepExecution = Literal["batched", "recorded"]  # how a step is executed, see `Model.obstacle`
Network = Callable[[Tensor, Tensor, Examples], Output]  # of params [P], statistics [S], examples

# of params [P], images, gradients by the logits [n, outputs]
FactoredGradientsOf = Callable[[Tensor, Tensor, Tensor], tuple[FactoredGradients, ...]]


def no_obstacle(execution: StepExecution) -> str:
    """That a step of a network can be executed in every way."""
    return ""


class Model(NamedTuple):
    """A network as pure functions. P parameters and S running statistics are flat vectors.

    init:               (generator) -> [P] initial parameters.
    initial_statistics: [S] running statistics of BatchNorm before training.
    apply:              (params [P], statistics [S], images [n, channels, height, width], training,
                        noise_keys) -> Output. In training, BatchNorm normalises by the batch and
                        returns running statistics that include it. noise_keys: [n] the keys of the
                        random numbers that dropout uses on each example; absent: nothing is
                        dropped.
    convolutional:      whether the network has convolutions, which batched over replicas would
                        become grouped convolutions and slow, or buffers that every pass changes:
                        then passes over memory go one after the other.
    layers:             the parts of the flat vector of parameters, in order.
    layer_inputs:       (params, statistics, images) -> for each layer with a matrix, the inputs
                        [rows, columns] that the matrix multiplies; None where the model does not
                        provide them.
    needs_noise:        whether training needs noise_keys.
    obstacle:           (execution) -> why a step of the network cannot be executed so, batched over
                        replicas or recorded once and repeated; empty where it can.
    factored_gradients: (params, images, logit_gradients [n, outputs]) -> for each layer the
                        gradients of single examples, whose losses have the given gradients by
                        their logits; None where a layer is not applied once to each example.
    """

    init: Callable[[Generator], Tensor]
    initial_statistics: Tensor
    apply: Callable[[Tensor, Tensor, Tensor, bool, Tensor | Absent], Output]
    convolutional: bool
    layers: tuple[Layer, ...]
    layer_inputs: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]] | None = None
    needs_noise: bool = False
    obstacle: Callable[[StepExecution], str] = no_obstacle
    factored_gradients: FactoredGradientsOf | None = None

    @property
    def may_mix_examples(self) -> bool:
        """Whether the output of an example may depend on the others of its batch, as with
        BatchNorm: not where the gradients of single examples have factors."""
        return self.factored_gradients is None


def kaiming_uniform(shape: tuple[int, ...], fan_in: int, generator: Generator) -> Tensor:
    """A weight or bias as PyTorch initialises linear and convolutional layers: uniform between
    -1 / sqrt(fan_in) and 1 / sqrt(fan_in)."""
    uniform: Tensor = 2 * torch.rand(shape, generator=generator) - 1
    return uniform / math.sqrt(fan_in)
