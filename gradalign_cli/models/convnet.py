"""Plain convolutional networks without biases: GPM's AlexNet and LeNet (Saha et al. 2021)."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d, relu, unfold

from gradalign_cli.errors import UserError, require
from gradalign_cli.models.model import Layer, Model, Output
from gradalign_cli.numerics.noise import drop_units, random_integers
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector


class Block(NamedTuple):
    """A convolution with square kernels, then max-pooling.

    filters:     the number of kernels.
    kernel_size: height and width of a kernel, in pixels.
    padding:     of the images before the convolution, in pixels.
    max_pool:    (kernel_size, stride, padding) of the pooling, in pixels.
    """

    filters: int
    kernel_size: int
    padding: int
    max_pool: tuple[int, int, int]


class Architecture(NamedTuple):
    """What a network consists of; its hidden layers are the blocks and then the linear layers.

    blocks:           the convolutional blocks.
    weight_shapes:    of the kernels and then of the matrices, the last one that of the logits.
    norm_shapes:      of a scale and a shift for each hidden layer; empty without BatchNorm.
    activation_sizes: for each hidden layer, the number of its outputs for one example, before
                      pooling.
    dropout:          for each hidden layer, the share of its outputs that is dropped in training;
                      empty or all 0 where nothing is dropped.
    """

    blocks: Sequence[Block]
    weight_shapes: list[tuple[int, ...]]
    norm_shapes: list[tuple[int, ...]]
    activation_sizes: list[int]
    dropout: Sequence[float]


class LayerInputsAndLogits(NamedTuple):
    """The inputs of each layer, those of the last one too, and the logits [n, outputs]."""

    raw_layer_inputs: list[Tensor]
    logits: Tensor


def make_architecture(
    blocks: Sequence[Block],
    widths: Sequence[int],
    with_batch_norm: bool,
    image_shape: tuple[int, int, int],
    outputs: int,
    dropout: Sequence[float],
) -> Architecture:
    """The architecture of `convnet`, with the same parameters."""
    channels, *image_size = image_shape  # image_size: (height, width)
    kernel_shapes, activation_sizes = [], []
    for block in blocks:
        kernel_shapes.append((block.filters, channels, block.kernel_size, block.kernel_size))
        pool_size, stride, pool_padding = block.max_pool
        output_size = [side + 2 * block.padding - block.kernel_size + 1 for side in image_size]
        activation_sizes.append(block.filters * math.prod(output_size))
        image_size = [(side + 2 * pool_padding - pool_size) // stride + 1 for side in output_size]
        require(
            min(image_size) > 0, "model", "a smaller network for images this small", image_shape
        )
        channels = block.filters
    sizes = [channels * math.prod(image_size), *widths, outputs]
    weight_shapes = [*kernel_shapes, *zip(sizes[1:], sizes, strict=False)]
    norm_shapes: list[tuple[int, ...]] = []
    if with_batch_norm:
        norm_shapes = [(shape[0],) for shape in weight_shapes[:-1] for _ in range(2)]
    activation_sizes += widths
    return Architecture(blocks, weight_shapes, norm_shapes, activation_sizes, dropout)


def initial_params(architecture: Architecture, init_gain: float, generator: Generator) -> Tensor:
    """Initial parameters [P]: weights uniform between -b and b with b = init_gain / sqrt(fan_in),
    the scales of BatchNorm 1 and its shifts 0."""
    weights = [
        (2 * torch.rand(shape, generator=generator) - 1)
        * init_gain
        / math.sqrt(math.prod(shape[1:]))
        for shape in architecture.weight_shapes
    ]
    scales_and_shifts = [
        torch.full(shape, float(number % 2 == 0))
        for number, shape in enumerate(architecture.norm_shapes)
    ]
    return flatten_tensors([*weights, *scales_and_shifts])


def local_response_norm(h: Tensor) -> Tensor:
    """h [n, c, height, width] over (1 + (0.001 / 9) m) ** 0.75, with m the mean of the squares over
    a channel, the two before it and the one behind it; beyond the channels there are zeros.

    A product with a matrix of zeros and ones: PyTorch's pooling takes six times as long on a CPU.
    """
    ones = torch.ones(h.shape[1], h.shape[1], dtype=h.dtype, device=h.device)
    weights = 0.001 / 9 / 4 * ones.triu(-2).tril(1)
    weighted_means = torch.einsum("oc,nchw->nohw", weights, h.square())
    return h * (-0.75 * weighted_means.log1p()).exp()


def forward(
    architecture: Architecture, params: Tensor, images: Tensor, noise_keys: Tensor | Absent
) -> LayerInputsAndLogits:
    """A pass through the network; drops nothing where `noise_keys` are absent."""
    blocks, weight_shapes, norm_shapes, activation_sizes, dropout = architecture
    if norm_shapes and len(images) == 1:
        raise UserError(
            "`model` normalises by the batch and was given one example: take a method that asks"
            " for no gradient of one, and a `batch_size` that leaves none over"
        )
    tensors = split_vector(params, [*weight_shapes, *norm_shapes])
    *weights, last_weight = tensors[: len(weight_shapes)]
    scales_and_shifts = iter(tensors[len(weight_shapes) :])
    drops: Iterator[tuple[float, Tensor]] | None = None
    if isinstance(noise_keys, Tensor):
        integers = random_integers(noise_keys, sum(activation_sizes))
        drops = zip(dropout, integers.split(activation_sizes, 1), strict=True)

    def normalise_and_rectify(h: Tensor) -> Tensor:
        if norm_shapes:
            h = batch_norm(h, None, None, next(scales_and_shifts), next(scales_and_shifts), True)
        return relu(h)

    def drop(h: Tensor) -> Tensor:
        return h if drops is None else drop_units(h, *next(drops))

    inputs, h = [], images
    for kernels, block in zip(weights, blocks, strict=False):
        inputs.append(h)
        h = normalise_and_rectify(conv2d(h, kernels, padding=block.padding))
        h = h if norm_shapes else local_response_norm(h)
        h = max_pool2d(drop(h), *block.max_pool)
    h = h.flatten(1)
    for weight in weights[len(blocks) :]:
        inputs.append(h)
        h = drop(normalise_and_rectify(linear(h, weight)))
    return LayerInputsAndLogits([*inputs, h], linear(h, last_weight))


def image_patches(images: Tensor, block: Block) -> Tensor:
    """The patches [n * positions, d] of n images that the kernels [filters, d] of a block multiply,
    with d = channels * kernel_size ** 2."""
    patches = unfold(images, block.kernel_size, padding=block.padding)
    return patches.transpose(1, 2).flatten(0, 1)


def convnet(
    blocks: Sequence[Block],
    widths: Sequence[int],
    with_batch_norm: bool,
    init_gain: float,
    image_shape: tuple[int, int, int],
    outputs: int,
    dropout: Sequence[float] = (),
) -> Model:
    """Convolutional blocks, hidden linear layers of the given widths, and the logits.

    with_batch_norm: BatchNorm after every layer but the last. It normalises by the batch in testing
                     too, so there are no running statistics. Without it, local response
                     normalisation follows every convolution.
    init_gain:       initial weights are uniform between -b and b with b = init_gain /
                     sqrt(fan_in).
    image_shape:     (channels, height, width).
    dropout:         the share of its outputs that each hidden layer loses in training, in a block
                     before the pooling; empty: nothing is dropped.
    """
    architecture = make_architecture(blocks, widths, with_batch_norm, image_shape, outputs, dropout)
    needs_noise = any(dropout)

    def init(generator: Generator) -> Tensor:
        return initial_params(architecture, init_gain, generator)

    def apply(
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        training: bool,
        noise_keys: Tensor | Absent = (),
    ) -> Output:
        noise_keys = noise_keys if training and needs_noise else ()
        inputs, logits = forward(architecture, params, images, noise_keys)
        return Output(logits, inputs[-1], statistics)

    def layer_inputs(params: Tensor, statistics: Tensor, images: Tensor) -> tuple[Tensor, ...]:
        inputs, _ = forward(architecture, params, images, ())
        patches = [image_patches(h, block) for h, block in zip(inputs, blocks, strict=False)]
        return *patches, *inputs[len(blocks) :]

    layers = [Layer(math.prod(shape), shape[0], False) for shape in architecture.weight_shapes]
    layers += [Layer(math.prod(shape), 0, False) for shape in architecture.norm_shapes]
    return Model(init, torch.zeros(0), apply, True, tuple(layers), layer_inputs, needs_noise)


def alexnet(shape: tuple[int, int, int], outputs: int, dropout: list[float]) -> Model:
    """GPM's AlexNet for 32 x 32 images.

    shape:   (channels, height, width) of an image.
    dropout: the share of its outputs that each of the five hidden layers loses in training; the
             paper's 0.2, 0.2, 0.5, 0.5, 0.5, or empty for no dropout.
    """
    valid = all(isinstance(share, float | int) and 0 <= share < 1 for share in dropout)
    valid = valid and len(dropout) in (0, 5)
    require(valid, "model.dropout", "a list of 5 numbers in [0, 1), or of none", dropout)
    halving = (2, 2, 0)
    blocks = [Block(64, 4, 0, halving), Block(128, 3, 0, halving), Block(256, 2, 0, halving)]
    return convnet(blocks, [2048, 2048], True, 1.0, shape, outputs, dropout)


def lenet(shape: tuple[int, int, int], outputs: int) -> Model:
    """GPM's LeNet, with weights uniform as in He et al. 2015 (gain sqrt 6).

    shape: (channels, height, width) of an image.
    """
    max_pool = (3, 2, 1)
    blocks = [Block(20, 5, 2, max_pool), Block(50, 5, 2, max_pool)]
    return convnet(blocks, [800, 500], False, math.sqrt(6), shape, outputs)
