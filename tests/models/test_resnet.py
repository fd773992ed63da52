import math

import pytest
import torch
from torch import nn

from gradalign_cli.errors import UserError
from gradalign_cli.models.resnet import convolve, resnet18


class TensorFlowConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME": the sides become ceil(side / stride), and
    where the number of zeros that this needs is odd, the larger half comes last."""

    def forward(self, x):
        margins = []
        for side, size, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            zeros = max((math.ceil(side / stride) - 1) * stride + size - side, 0)
            margins += [zeros // 2, zeros - zeros // 2]
        return nn.functional.conv2d(nn.functional.pad(x, margins), self.weight, stride=self.stride)


class AgemNorm(nn.BatchNorm2d):
    """BatchNorm as in A-GEM's code: epsilon 0.001, and running averages of the mean and of the
    biased variance, that begin at 0 and decay by 0.9."""

    def __init__(self, channels):
        super().__init__(channels)
        self.running_var.zero_()

    def forward(self, x):
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean = x.mean((0, 2, 3))
            variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
            self.running_mean.mul_(0.9).add_(mean.detach(), alpha=0.1)
            self.running_var.mul_(0.9).add_(variance.detach(), alpha=0.1)
        scale = self.weight / (variance + 0.001).sqrt()
        return scale[:, None, None] * (x - mean[:, None, None]) + self.bias[:, None, None]


class Block(nn.Module):
    def __init__(self, into, out, stride, conv_type, norm_type):
        super().__init__()
        self.conv1 = conv_type(into, out, 3, stride, 1, bias=False)
        self.bn1 = norm_type(out)
        self.conv2 = conv_type(out, out, 3, 1, 1, bias=False)
        self.bn2 = norm_type(out)
        self.shortcut = None
        if stride > 1 or into != out:
            conv = conv_type(into, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, norm_type(out))

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return torch.relu(h + (x if self.shortcut is None else self.shortcut(x)))


class ModuleResNet18(nn.Module):
    """ResNet18 of modules, which hold their running statistics."""

    def __init__(self, width, outputs, conv_type=nn.Conv2d, norm_type=nn.BatchNorm2d):
        super().__init__()
        self.conv, self.bn = conv_type(3, width, 3, 1, 1, bias=False), norm_type(width)
        blocks, into = [], width
        for stage in range(4):
            for place in range(2):
                out = width * 2**stage
                stride = 2 if stage and not place else 1
                blocks.append(Block(into, out, stride, conv_type, norm_type))
                into = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(into, outputs)

    def forward(self, x):
        h = self.blocks(torch.relu(self.bn(self.conv(x))))
        return self.head(nn.functional.avg_pool2d(h, 4).flatten(1))

    def load(self, params, statistics):
        """Copy flat vectors into the layers: kernels, then scales and shifts, then the head."""
        convs = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        tensors = [c.weight for c in convs]
        tensors += [t for n in norms for t in (n.weight, n.bias)]
        tensors += [self.head.weight, self.head.bias]
        running = [t for n in norms for t in (n.running_mean, n.running_var)]
        for flat, targets in ((params, tensors), (statistics, running)):
            parts = flat.split([t.numel() for t in targets])
            for target, part in zip(targets, parts, strict=True):
                target.data.copy_(part.view_as(target))

    def running_statistics(self):
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        return torch.cat([t for n in norms for t in (n.running_mean, n.running_var)])


LAYOUTS = ("channels_last", "channels_first")
PUBLISHED = {"padding": "tensorflow", "batch_norm": "agem"}  # as A-GEM's code has it


@pytest.mark.parametrize("side", [32, 37])  # the sides 32, 16, 8, 4 are even, 37, 19, 10, 5 not all
@pytest.mark.parametrize(
    ("options", "layer_types"),
    [
        ({}, ()),
        ({"padding": "tensorflow"}, (TensorFlowConv,)),
        ({"batch_norm": "agem"}, (nn.Conv2d, AgemNorm)),
        (PUBLISHED | {"layout": "channels_last"}, (TensorFlowConv, AgemNorm)),
    ],
)
def test_the_resnet_agrees_with_modules_in_training_and_in_testing(options, layer_types, side):
    model = resnet18(5, True, (3, side, side), 7, **options)
    module = ModuleResNet18(5, 7, *layer_types)
    params = model.init(torch.Generator().manual_seed(0))
    statistics = model.initial_statistics
    assert torch.equal(statistics, module.running_statistics())
    module.load(params, statistics)
    source = torch.Generator().manual_seed(1)
    for training in (True, True, False, True):
        x = torch.rand(6, 3, side, side, generator=source)
        module.train(training)
        before = statistics.clone()
        output = model.apply(params, statistics, x, training)
        torch.testing.assert_close(output.logits, module(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(statistics, before)  # apply does not write into its argument
        statistics = output.statistics
        torch.testing.assert_close(statistics, module.running_statistics(), rtol=1e-4, atol=1e-6)


def test_tensorflows_padding_sees_an_even_image_mirrored_and_an_odd_one_as_it_is():
    """Of an even number of rows the zeros lie after the image, so a mirrored image and kernel give
    another result than the mirrored result; of an odd number they lie on both sides."""
    kernel = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    for side, symmetric in ((8, False), (9, True)):
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
        results = [
            convolve(images.flip(dims), kernel.flip(dims), 2, "tensorflow").flip(dims)
            for dims in ((), (2,), (3,))
        ]
        assert results[0].shape == (1, 2, math.ceil(side / 2), math.ceil(side / 2))
        for mirrored in results[1:]:
            assert torch.allclose(mirrored, results[0]) == symmetric


def test_the_published_network_is_finite_before_it_is_trained():
    """Its running variances are 0, so each of 17 layers multiplies by 1 / sqrt(0.001)."""
    for precision in ("float32", "bfloat16"):
        model = resnet18(20, True, (3, 32, 32), 5, init="agem", precision=precision, **PUBLISHED)
        params = model.init(torch.Generator().manual_seed(0))
        output = model.apply(params, model.initial_statistics, torch.ones(2, 3, 32, 32), False)
        assert output.logits.isfinite().all()
        assert torch.equal(output.statistics, torch.zeros_like(output.statistics))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{}, PUBLISHED])
def test_replicas_by_vmap_are_those_of_a_loop_with_their_running_statistics(options, layout):
    model = resnet18(4, True, (3, 32, 32), 5, layout=layout, **options)
    params = torch.stack([model.init(torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    statistics = torch.rand(2, len(model.initial_statistics))
    x = torch.rand(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def outputs_and_gradient(params, statistics, x):
        def loss(params):
            output = model.apply(params, statistics, x, True)
            return output.logits.square().sum(), output

        return torch.func.grad(loss, has_aux=True)(params)

    gradients, outputs = torch.func.vmap(outputs_and_gradient)(params, statistics, x)
    for replica in (0, 1):
        gradient, output = outputs_and_gradient(params[replica], statistics[replica], x[replica])
        torch.testing.assert_close(gradients[replica], gradient, rtol=1e-3, atol=1e-4)
        for batched, single in zip(outputs, output, strict=True):
            torch.testing.assert_close(batched[replica], single, rtol=1e-4, atol=1e-5)


def test_the_number_of_parameters_is_that_of_pytorchs_layers():
    model = resnet18(20, True, (3, 32, 32), 100)
    count = sum(p.numel() for p in ModuleResNet18(20, 100).parameters())
    assert len(model.init(torch.Generator())) == count == 1_109_240
    assert len(resnet18(64, True, (3, 32, 32), 10).init(torch.Generator())) == 11_173_962
    assert len(resnet18(20, False, (3, 32, 32), 100).init(torch.Generator())) == count - 100


def output_and_gradient(dtype, **options):
    model = resnet18(8, True, (3, 32, 32), 7, **options)
    params = model.init(torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    output = model.apply(params, model.initial_statistics.to(dtype), x, True)
    (gradient,) = torch.autograd.grad(output.logits.square().mean(), params)
    assert all(part.dtype == dtype for part in (*output, gradient))
    return output, gradient


def test_the_layout_changes_results_only_by_rounding():
    output, gradient = output_and_gradient(torch.float64)
    last_output, last_gradient = output_and_gradient(torch.float64, layout="channels_last")
    torch.testing.assert_close(tuple(last_output), tuple(output), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last_gradient, gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("options", [{}, PUBLISHED])
def test_bfloat16_agrees_with_float32_to_its_eight_bits(options):
    output, gradient = output_and_gradient(torch.float32, **options)
    rounded_output, rounded_gradient = output_and_gradient(
        torch.float32, precision="bfloat16", **options
    )
    assert not torch.equal(rounded_output.logits, output.logits)
    torch.testing.assert_close(rounded_output.logits, output.logits, rtol=0, atol=0.03)
    torch.testing.assert_close(rounded_output.statistics, output.statistics, rtol=0.05, atol=0.01)
    assert (
        torch.cosine_similarity(rounded_gradient, gradient, dim=0) > 0.9
    )  # rounding of 20 layers adds up


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_gradients_of_single_examples_by_vmap_are_those_of_a_loop(layout):
    """As the Fisher information takes them, with the network in evaluation mode."""
    model = resnet18(4, True, (3, 32, 32), 5, layout=layout)
    params = model.init(torch.Generator().manual_seed(0))
    x = torch.rand(3, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gradient = torch.func.grad(
        lambda params, x: (
            model.apply(params, model.initial_statistics, x, False).logits.square().sum()
        )
    )
    gradients = torch.func.vmap(gradient, in_dims=(None, 0))(params, x)
    loop = torch.stack([gradient(params, example) for example in x])
    torch.testing.assert_close(gradients, loop)


def test_initial_kernels_are_uniform_within_the_bound_of_their_inputs():
    inputs_of_kernels = {
        "torch": {(3, 3): 27, (20, 3): 180, (20, 1): 20},
        "agem": {(3, 3): 9, (20, 3): 60, (20, 1): 20},
    }
    for init, expected in inputs_of_kernels.items():
        params = resnet18(20, True, (3, 32, 32), 5, init=init).init(torch.Generator())
        sizes = [(20, 3, 3)] + [(20, 20, 3)] * 4 + [(40, 20, 3), (40, 40, 3), (40, 20, 1)]
        counts = [o * i * k * k for o, i, k in sizes]
        parts = params[: sum(counts)].split(counts)
        for part, (_, into, side) in zip(parts, sizes, strict=True):
            if (into, side) in expected:
                bound = expected[into, side] ** -0.5
                assert 0.97 * bound < part.abs().max() <= bound


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "float8"},
        {"layout": "NHWC"},
        {"init": "xavier"},
        {"padding": "valid"},
        {"batch_norm": "tensorflow"},
    ],
)
def test_an_unknown_option_is_named(options):
    (name,) = options
    with pytest.raises(UserError, match=f"`model.{name}` must be one of"):
        resnet18(8, True, (3, 32, 32), 7, **options)


def test_smaller_images_are_refused():
    with pytest.raises(UserError, match=r"must be a smaller network .*, found \[3, 31, 40\]$"):
        resnet18(8, True, (3, 31, 40), 7)


@pytest.mark.parametrize("side", [32, 33, 40, 60, 63, 65])
def test_images_of_any_side_from_32_on_fit_the_last_layer(side):
    """Each of three strides of 2 rounds up, and the last pooling of 4 x 4 rounds down."""
    model = resnet18(2, True, (3, side, side), 5)
    params = model.init(torch.Generator().manual_seed(0))
    images = torch.zeros(1, 3, side, side)
    output = model.apply(params, model.initial_statistics, images, False, ())
    assert output.features.shape == (1, (math.ceil(side / 8) // 4) ** 2 * 16)
