import math

import pytest
import torch
from torch import nn

from gradalign_cli.errors import UserError
from gradalign_cli.models.resnet import resnet18


class Block(nn.Module):
    def __init__(self, into, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = None
        if stride > 1 or into != out:
            conv = nn.Conv2d(into, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return torch.relu(h + (x if self.shortcut is None else self.shortcut(x)))


class ModuleResNet18(nn.Module):
    """ResNet18 of PyTorch's layers, which hold their running statistics."""

    def __init__(self, width, outputs):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        blocks, into = [], width
        for stage in range(4):
            for place in range(2):
                out = width * 2**stage
                blocks.append(Block(into, out, 2 if stage and not place else 1))
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


def test_the_resnet_agrees_with_pytorchs_layers_in_training_and_in_testing():
    model, module = resnet18(5, True, (3, 32, 32), 7), ModuleResNet18(5, 7)
    params = model.init(torch.Generator().manual_seed(0))
    statistics = model.initial_statistics
    module.load(params, statistics)
    source = torch.Generator().manual_seed(1)
    for training in (True, True, False, True):
        x = torch.rand(6, 3, 32, 32, generator=source)
        module.train(training)
        before = statistics.clone()
        output = model.apply(params, statistics, x, training)
        torch.testing.assert_close(output.logits, module(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(statistics, before)  # apply does not write into its argument
        statistics = output.statistics
        torch.testing.assert_close(statistics, module.running_statistics(), rtol=1e-4, atol=1e-6)


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


def test_bfloat16_agrees_with_float32_to_its_eight_bits():
    output, gradient = output_and_gradient(torch.float32)
    rounded_output, rounded_gradient = output_and_gradient(torch.float32, precision="bfloat16")
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
    "options", [{"precision": "float8"}, {"layout": "NHWC"}, {"init": "xavier"}]
)
def test_an_unknown_precision_layout_or_init_is_named(options):
    (name,) = options
    with pytest.raises(UserError, match=f"`model.{name}` must be one of"):
        resnet18(8, True, (3, 32, 32), 7, **options)


@pytest.mark.parametrize("side", [32, 33, 40, 60, 63, 65])
def test_images_of_any_side_from_32_on_fit_the_last_layer(side):
    """Each of three strides of 2 rounds up, and the last pooling of 4 x 4 rounds down."""
    model = resnet18(2, True, (3, side, side), 5)
    params = model.init(torch.Generator().manual_seed(0))
    images = torch.zeros(1, 3, side, side)
    output = model.apply(params, model.initial_statistics, images, False, ())
    assert output.features.shape == (1, (math.ceil(side / 8) // 4) ** 2 * 16)
