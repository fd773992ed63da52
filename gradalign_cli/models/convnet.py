"""Plain convolutional networks without biases: GPM's AlexNet and LeNet (Saha et al. 2021)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import (
    batch_norm,
    conv2d,
    linear,
    local_response_norm,
    max_pool2d,
    relu,
    unfold,
)

from gradalign_cli.errors import UserError, require
from gradalign_cli.models.model import Layer, Model, Output
from gradalign_cli.numerics.noise import drop, numbers
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector


class Block(NamedTuple):
    """A convolution of `filters` with square kernels, then a maximum over `pool` pixels (size,
    stride, padding)."""

    filters: int
    kernel: int
    padding: int
    pool: tuple[int, int, int]


def columns(x: Tensor, block: Block) -> Tensor:
    """What a block's kernels [filters, d] multiply: the patches [n * places, d] of images."""
    patches = unfold(x, block.kernel, padding=block.padding)
    return patches.transpose(1, 2).flatten(0, 1)


def convnet(
    blocks: Sequence[Block],
    widths: Sequence[int],
    normed: bool,
    gain: float,
    shape: tuple[int, int, int],
    outputs: int,
    dropout: Sequence[float] = (),
) -> Model:
    """Blocks, then hidden layers of the given widths, then the logits.

    normed: BatchNorm after every layer but the last, by the batch's own statistics in training and
    in testing, so that it keeps none; otherwise local response normalisation after convolutions.
    gain: weights are uniform within gain / sqrt(inputs).
    dropout: the share of its outputs that each layer but the last loses in training, before the
    maximum of a block; none where empty.
    """
    channels, height, width = shape
    kernels, plane, entries = [], [height, width], []
    for block in blocks:
        kernels.append((block.filters, channels, block.kernel, block.kernel))
        size, stride, edge = block.pool
        inner = [side + 2 * block.padding - block.kernel + 1 for side in plane]
        entries.append(block.filters * math.prod(inner))
        plane = [(side + 2 * edge - size) // stride + 1 for side in inner]
        require(min(plane) > 0, "model", "an MLP for images this small", shape)
        channels = block.filters
    sizes = [channels * plane[0] * plane[1], *widths, outputs]
    matrices = [*kernels, *zip(sizes[1:], sizes, strict=False)]
    norms = [(matrix[0],) for matrix in matrices[:-1] for _ in range(2)] if normed else []
    shapes = [*matrices, *norms]
    entries += widths
    noisy = any(dropout)

    def start(source: Generator) -> Tensor:
        drawn = [
            (2 * torch.rand(s, generator=source) - 1) * gain / math.sqrt(math.prod(s[1:]))
            for s in matrices
        ]
        affine = [torch.full(s, float(k % 2 == 0)) for k, s in enumerate(norms)]
        return flatten_tensors([*drawn, *affine])

    def forward(
        params: Tensor, x: Tensor, noise: Tensor | Absent = ()
    ) -> tuple[list[Tensor], Tensor]:
        """What each layer is given, and the logits."""
        if normed and len(x) == 1:
            raise UserError(
                "`model` normalises by the batch and was given one example: take a method that asks"
                " for no gradient of one, and a `batch_size` that leaves none over"
            )
        parts = split_vector(params, shapes)
        affine = iter(parts[len(matrices) :])
        drawn = numbers(noise, sum(entries)) if isinstance(noise, Tensor) else None
        losses = iter(() if drawn is None else zip(dropout, drawn.split(entries, 1), strict=True))

        def active(h: Tensor) -> Tensor:
            h = batch_norm(h, None, None, next(affine), next(affine), True) if normed else h
            return relu(h)

        def thinned(h: Tensor) -> Tensor:
            return h if drawn is None else drop(h, *next(losses))

        given, h = [], x
        for weight, block in zip(parts, blocks, strict=False):
            given.append(h)
            h = active(conv2d(h, weight, padding=block.padding))
            h = h if normed else local_response_norm(h, 4, 0.001 / 9, 0.75, 1)
            h = max_pool2d(thinned(h), *block.pool)
        h = h.flatten(1)
        for weight in parts[len(blocks) : len(matrices) - 1]:
            given.append(h)
            h = thinned(active(linear(h, weight)))
        given.append(h)
        return given, linear(h, parts[len(matrices) - 1])

    def apply(
        params: Tensor, statistics: Tensor, x: Tensor, training: bool, noise: Tensor | Absent = ()
    ) -> Output:
        given, logits = forward(params, x, noise if training and noisy else ())
        return Output(logits, given[-1], statistics)

    def inputs(params: Tensor, statistics: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        given, _ = forward(params, x)
        patches = [columns(h, block) for h, block in zip(given, blocks, strict=False)]
        return *patches, *given[len(blocks) :]

    layers = [Layer(math.prod(s), s[0], False) for s in matrices]
    layers += [Layer(math.prod(s), 0, False) for s in norms]
    return Model(start, torch.zeros(0), apply, True, tuple(layers), inputs, noisy)


def alexnet(shape: tuple[int, int, int], outputs: int, dropout: list[float]) -> Model:
    """GPM's AlexNet for 32 x 32 images.

    dropout: the share of its outputs that each of its five hidden layers loses in training; the
    paper's 0.2, 0.2, 0.5, 0.5, 0.5, or none where empty.
    """
    fits = all(isinstance(share, float | int) and 0 <= share < 1 for share in dropout)
    fits = fits and len(dropout) in (0, 5)
    require(fits, "model.dropout", "a list of 5 numbers in [0, 1), or of none", dropout)
    halved = (2, 2, 0)
    blocks = [Block(64, 4, 0, halved), Block(128, 3, 0, halved), Block(256, 2, 0, halved)]
    return convnet(blocks, [2048, 2048], True, 1.0, shape, outputs, dropout)


def lenet(shape: tuple[int, int, int], outputs: int) -> Model:
    """GPM's LeNet, with He's uniform start (gain sqrt 6)."""
    pool = (3, 2, 1)
    blocks = [Block(20, 5, 2, pool), Block(50, 5, 2, pool)]
    return convnet(blocks, [800, 500], False, math.sqrt(6), shape, outputs)
