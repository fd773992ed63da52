"""ResNet18 for small images (He et al. 2016), with BatchNorm's running statistics as state."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, cat, full, ones, zeros
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, linear, pad, relu

from gradalign_cli.errors import require, require_choice
from gradalign_cli.models.model import Layer, Model, Output, kaiming_uniform
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.numerics.vectors import flatten_tensors, split_vector

MOMENTUM = 0.1  # of BatchNorm's running statistics: the weight of the batch
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Precision = Literal["float32", "bfloat16"]
MemoryFormat = Literal["channels_first", "channels_last"]
Init = Literal["torch", "agem"]
PaddingVariant = Literal["symmetric", "tensorflow"]
BatchNormVariant = Literal["torch", "agem"]


class BatchNormForm(NamedTuple):
    """What `batch_norm` of `resnet18` chooses.

    epsilon:          is added to the variance.
    biased_variance:  whether the running variance averages the squared distances from the mean
                      divided by their number N, not by N - 1.
    initial_variance: the running variance before training.
    """

    epsilon: float
    biased_variance: bool
    initial_variance: float


BATCH_NORMS = {
    "torch": BatchNormForm(1e-5, False, 1.0),
    "agem": BatchNormForm(1e-3, True, 0.0),
}


class ResidualBlock(NamedTuple):
    """stride: of the first convolution;  convolves_shortcut: whether the shortcut has a convolution
    with BatchNorm, because it changes the number of channels or of pixels."""

    stride: int
    convolves_shortcut: bool


class Architecture(NamedTuple):
    """What a network consists of.

    kernel_shapes: (filters, channels, height, width) of each convolution, in the order of their
                   use; BatchNorm follows every convolution.
    norm_shapes:   of a scale and a shift for each BatchNorm, and so of its running mean and
                   variance.
    head_shapes:   of the weight of the last layer and of its bias, where it has one.
    blocks:        the residual blocks.
    """

    kernel_shapes: list[tuple[int, int, int, int]]
    norm_shapes: list[tuple[int, ...]]
    head_shapes: list[tuple[int, ...]]
    blocks: list[ResidualBlock]


class ComputationOptions(NamedTuple):
    """How a network is computed: four options of `resnet18`, which says what they mean."""

    precision: Precision
    layout: MemoryFormat
    padding: PaddingVariant
    batch_norm: BatchNormVariant


class BatchNorms:
    """The BatchNorm layers of one forward pass, in order: each call is the next layer.

    In training, calls update `running_statistics` in place.
    """

    def __init__(
        self,
        form: BatchNormForm,
        scales_and_shifts: list[Tensor],
        running_statistics: list[Tensor],
        training: bool,
    ) -> None:
        self.form = form
        self.scales_and_shifts = iter(scales_and_shifts)
        self.running_statistics = iter(running_statistics)
        self.training = training

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = next(self.scales_and_shifts), next(self.scales_and_shifts)
        mean, var = next(self.running_statistics), next(self.running_statistics)
        epsilon = self.form.epsilon
        if not (self.training and self.form.biased_variance):
            return batch_norm(x, mean, var, weight, bias, self.training, MOMENTUM, epsilon)
        # batch_norm averages unbiased variances, N / (N - 1) times the biased ones of N values
        unbiased_share = 1 - len(weight) / x.numel()
        new_mean, new_var = mean.clone(), var / unbiased_share  # autograd keeps those it updates
        x = batch_norm(x, new_mean, new_var, weight, bias, True, MOMENTUM, epsilon)
        mean.copy_(new_mean)
        var.copy_(new_var * unbiased_share)
        return x


def make_architecture(
    width: int, head_bias: bool, image_shape: tuple[int, int, int], outputs: int
) -> Architecture:
    """Four stages of two residual blocks; see `resnet18`."""
    channels, height, image_width = image_shape
    kernel_shapes, blocks = [(width, channels, 3, 3)], []
    channels = width
    for stage in range(4):
        for number in range(2):
            filters, stride = width * 2**stage, 2 if stage and not number else 1
            convolves_shortcut = stride > 1 or channels != filters
            kernel_shapes += [(filters, channels, 3, 3), (filters, filters, 3, 3)]
            kernel_shapes += [(filters, channels, 1, 1)] * convolves_shortcut
            blocks.append(ResidualBlock(stride, convolves_shortcut))
            channels = filters
    last_height, last_width = -(-height // 8), -(-image_width // 8)  # strides round up
    features = (last_height // 4) * (last_width // 4) * channels
    norm_shapes: list[tuple[int, ...]] = [
        (filters,) for filters, *_ in kernel_shapes for _ in range(2)
    ]
    head_shapes = [(outputs, features), *[(outputs,)] * head_bias]
    return Architecture(kernel_shapes, norm_shapes, head_shapes, blocks)


def initial_params(architecture: Architecture, init: Init, generator: Generator) -> Tensor:
    """Initial parameters [P]: kernels, then BatchNorm's scales and shifts, then the last layer;
    `init` is that of `resnet18`."""
    kernels = [
        kaiming_uniform(
            (filters, channels, height, width),
            channels * (height * width if init == "torch" else height),
            generator,
        )
        for filters, channels, height, width in architecture.kernel_shapes
    ]
    scales_and_shifts = [
        tensor
        for filters, *_ in architecture.kernel_shapes
        for tensor in (ones(filters), zeros(filters))
    ]
    features = architecture.head_shapes[0][1]
    head = [kaiming_uniform(shape, features, generator) for shape in architecture.head_shapes]
    return flatten_tensors([*kernels, *scales_and_shifts, *head])


def to_convolution_format(tensor: Tensor, precision: Precision, layout: MemoryFormat) -> Tensor:
    """Images or kernels, in `tensor`, in the precision and memory layout of the convolutions;
    `precision` and `layout` are those of `resnet18`."""
    tensor = tensor.to(PRECISIONS[precision]) if precision != "float32" else tensor
    if layout == "channels_first":
        return tensor.contiguous()
    # vmap does not support torch.channels_last
    return tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def convolve(images: Tensor, kernel: Tensor, stride: int, padding: PaddingVariant) -> Tensor:
    """A 3 x 3 convolution of images [B, C, H, W] that gives ceil(H / stride) rows; `padding` is
    that of `resnet18`."""
    if padding == "symmetric" or stride == 1:
        return conv2d(images, kernel, stride=stride, padding=1)
    # with stride 2, n rows need one more row of zeros where n is even, two where it is odd
    first_column, first_row = images.shape[3] % 2, images.shape[2] % 2
    return conv2d(pad(images, (first_column, 1, first_row, 1)), kernel, stride=stride)


def forward(
    architecture: Architecture,
    params: Tensor,
    statistics: Tensor,
    images: Tensor,
    training: bool,
    computation_options: ComputationOptions,
) -> Output:
    """`Model.apply` of a ResNet18."""
    kernel_shapes, norm_shapes, head_shapes, blocks = architecture
    precision, layout, padding, batch_norm_form = computation_options
    tensors = split_vector(params, [*kernel_shapes, *norm_shapes, *head_shapes])
    kernels = iter(
        [
            to_convolution_format(tensor, precision, layout)
            for tensor in tensors[: len(kernel_shapes)]
        ]
    )
    scales_and_shifts = tensors[len(kernel_shapes) : len(kernel_shapes) + len(norm_shapes)]
    # BatchNorm updates copies in place; under vmap the update of a part of a vector would be lost
    running_statistics = [part.clone() for part in split_vector(statistics, norm_shapes)]
    norm = BatchNorms(BATCH_NORMS[batch_norm_form], scales_and_shifts, running_statistics, training)
    images = to_convolution_format(images, precision, layout)
    h = relu(norm(convolve(images, next(kernels), 1, padding)))
    for stride, convolves_shortcut in blocks:
        residual = relu(norm(convolve(h, next(kernels), stride, padding)))
        residual = norm(convolve(residual, next(kernels), 1, padding))
        if convolves_shortcut:
            # without a stride: of few channels, oneDNN writes past its memory in the gradient of a
            # 1 x 1 convolution with one (uxlfoundation/oneDNN, issue 6035)
            h = norm(conv2d(h[:, :, ::stride, ::stride], next(kernels)))
        h = relu(residual + h)
    features = avg_pool2d(h, 4).flatten(1).to(params.dtype)
    head = tensors[len(tensors) - len(head_shapes) :]
    statistics = flatten_tensors(running_statistics) if training else statistics
    return Output(linear(features, *head), features, statistics)


def check_resnet_options(
    width: int,
    image_shape: tuple[int, int, int],
    init: Init,
    computation_options: ComputationOptions,
) -> None:
    """Raise UserError where an option of `resnet18` is out of its domain."""
    require_choice(Precision, "model.precision", computation_options.precision)
    require_choice(MemoryFormat, "model.layout", computation_options.layout)
    require_choice(Init, "model.init", init)
    require_choice(PaddingVariant, "model.padding", computation_options.padding)
    require_choice(BatchNormVariant, "model.batch_norm", computation_options.batch_norm)
    require(isinstance(width, int) and width > 0, "model.width", "positive", width)
    large = min(image_shape[1:]) >= 32
    require(large, "model", "a smaller network for images below 32 x 32 pixels", list(image_shape))


def resnet18(
    width: int,
    head_bias: bool,
    shape: tuple[int, int, int],
    outputs: int,
    precision: Precision = "float32",
    layout: MemoryFormat = "channels_first",
    init: Init = "torch",
    padding: PaddingVariant = "symmetric",
    batch_norm: BatchNormVariant = "torch",
) -> Model:
    """Four stages of two residual blocks, with 1, 2, 4 and 8 times `width` filters.

    As usual on CIFAR, the first convolution is 3 x 3 with stride 1 and no max-pooling follows it.

    width:      20 is the reduced ResNet18 of GEM and A-GEM, 64 the standard one.
    head_bias:  whether the last layer has a bias.
    shape:      (channels, height, width) of an image.
    precision:  float32 or bfloat16, of the convolutions and the activations between them.
                Parameters, running statistics, the last layer and gradients are always float32.
    layout:     channels_first or channels_last, the layout of images and kernels in memory.
    init:       `torch`: kernels of C channels and S x S pixels are uniform between -b and b with
                b = 1 / sqrt(S * S * C), as in PyTorch; `agem`: with b = 1 / sqrt(S * C), as in
                A-GEM's published code.
    padding:    `symmetric`: a 3 x 3 convolution pads one row of zeros on every side, as in PyTorch;
                `tensorflow`: one with stride 2 pads only as many rows as it reads, so for an even
                number of rows none before and one after them, as TensorFlow's "SAME". In both the
                output is as large.
    batch_norm: `torch`: epsilon is 1e-5, the running variance averages the unbiased variances of
                the batches, and it starts at 1, as in PyTorch; `agem`: epsilon is 1e-3, the
                variances are the biased ones, and it starts at 0, as in A-GEM's published code.
                The running mean starts at 0 in both.
    """
    computation_options = ComputationOptions(precision, layout, padding, batch_norm)
    check_resnet_options(width, shape, init, computation_options)
    architecture = make_architecture(width, head_bias, shape, outputs)

    def init_params(generator: Generator) -> Tensor:
        return initial_params(architecture, init, generator)

    def apply(
        params: Tensor,
        statistics: Tensor,
        images: Tensor,
        training: bool,
        noise_keys: Tensor | Absent = (),
    ) -> Output:
        return forward(architecture, params, statistics, images, training, computation_options)

    channels = [filters for filters, *_ in architecture.kernel_shapes]
    initial_variance = BATCH_NORMS[batch_norm].initial_variance
    initial_statistics = cat(
        [part for c in channels for part in (zeros(c), full((c,), initial_variance))]
    )
    layers = [Layer(math.prod(shape), shape[0], False) for shape in architecture.kernel_shapes]
    layers += [Layer(2 * c, 0, False) for c in channels]
    head_size = sum(math.prod(shape) for shape in architecture.head_shapes)
    layers += [Layer(head_size, outputs, head_bias)]
    return Model(init_params, initial_statistics, apply, True, tuple(layers))
