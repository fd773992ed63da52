"""ResNet18 for small images (He et al. 2016), with BatchNorm's running statistics as state."""

import math

import torch
from torch import Generator, Tensor, cat, ones, zeros
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, linear, relu

from gradalign_cli.errors import require
from gradalign_cli.models.model import Layer, Model, Output, kaiming_uniform
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector

MOMENTUM, EPSILON = 0.1, 1e-5  # PyTorch's defaults
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = ("channels_first", "channels_last")
INITS = ("torch", "agem")


class Norms:
    """BatchNorm layers of one forward pass, in order; in training they move `running` in place."""

    def __init__(self, affine: list[Tensor], running: list[Tensor], training: bool) -> None:
        self.affine, self.running, self.training = iter(affine), iter(running), training

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = next(self.affine), next(self.affine)
        mean, var = next(self.running), next(self.running)
        return batch_norm(x, mean, var, weight, bias, self.training, MOMENTUM, EPSILON)


def resnet18(
    width: int,
    head_bias: bool,
    shape: tuple[int, int, int],
    outputs: int,
    precision: str = "float32",
    layout: str = "channels_first",
    init: str = "torch",
) -> Model:
    """Four stages of two basic blocks with width, 2, 4 and 8 times as many filters.

    The first convolution is 3 x 3 with stride 1 and there is no max-pooling, as everyone has it on
    CIFAR. `width` 20 is the reduced ResNet18 of GEM and A-GEM, 64 the standard one.

    precision: of the convolutions and what flows between them; parameters, running statistics, the
    last layer and gradients are float32 in any case.  layout: of the images in memory.  init:
    kernels of C channels and S x S places are uniform within 1 / sqrt(S S C) as PyTorch has them,
    or within 1 / sqrt(S C) as A-GEM's published code has them.
    """
    known = (
        (precision, "precision", PRECISIONS),
        (layout, "layout", LAYOUTS),
        (init, "init", INITS),
    )
    for found, name, names in known:
        require(found in names, f"model.{name}", f"one of {', '.join(names)}", found)
    require(isinstance(width, int) and width > 0, "model.width", "positive", width)
    require(min(shape[1:]) >= 32, "model", "an MLP for images below 32 x 32 pixels", "resnet18")
    convolutions: list[tuple[int, int, int]] = [(width, shape[0], 3)]
    blocks: list[tuple[int, bool]] = []  # stride, whether the shortcut has a convolution
    into = width
    for stage in range(4):
        for place in range(2):
            out, stride = width * 2**stage, 2 if stage and not place else 1
            shortcut = stride > 1 or into != out
            convolutions += [(out, into, 3), (out, out, 3)] + [(out, into, 1)] * shortcut
            blocks.append((stride, shortcut))
            into = out
    pooled = (shape[1] // 8 // 4) * (shape[2] // 8 // 4) * into
    kernels = [(out, source, size, size) for out, source, size in convolutions]
    channels = [out for out, _, _ in convolutions]
    norm_shapes = [(c,) for c in channels for _ in range(2)]
    head = [(outputs, pooled)] + [(outputs,)] * head_bias
    shapes = [*kernels, *norm_shapes, *head]
    lower = precision != "float32"

    def placed(images: Tensor) -> Tensor:
        """Images or kernels as the convolutions take them."""
        images = images.to(PRECISIONS[precision]) if lower else images
        if layout == "channels_first":
            return images.contiguous()
        return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # vmap knows no formats

    def start(source: Generator) -> Tensor:
        places = [k[2] * k[3] if init == "torch" else k[2] for k in kernels]
        weights = [
            kaiming_uniform(k, k[1] * n, source) for k, n in zip(kernels, places, strict=True)
        ]
        affine = [part for c in channels for part in (ones(c), zeros(c))]
        return flatten_tensors(
            [*weights, *affine, *(kaiming_uniform(s, pooled, source) for s in head)]
        )

    def apply(
        params: Tensor, statistics: Tensor, x: Tensor, training: bool, noise: Tensor | Absent = ()
    ) -> Output:
        parts = split_vector(params, shapes)
        kernel = iter([placed(part) for part in parts[: len(kernels)]])
        affine = parts[len(kernels) : len(kernels) + len(norm_shapes)]
        statistics = statistics.clone()  # theirs to move
        norm = Norms(affine, split_vector(statistics, norm_shapes), training)
        h = relu(norm(conv2d(placed(x), next(kernel), padding=1)))
        for stride, shortcut in blocks:
            inner = relu(norm(conv2d(h, next(kernel), stride=stride, padding=1)))
            inner = norm(conv2d(inner, next(kernel), padding=1))
            h = norm(conv2d(h, next(kernel), stride=stride)) if shortcut else h
            h = relu(inner + h)
        features = avg_pool2d(h, 4).flatten(1).to(params.dtype)
        return Output(linear(features, *parts[len(shapes) - len(head) :]), features, statistics)

    statistics = cat([part for c in channels for part in (zeros(c), ones(c))])
    layers = [Layer(math.prod(kernel), kernel[0], False) for kernel in kernels]
    layers += [Layer(2 * c, 0, False) for c in channels]
    layers += [Layer(outputs * (pooled + head_bias), outputs, head_bias)]
    return Model(start, statistics, apply, True, tuple(layers))
