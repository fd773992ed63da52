"""Small torch.nn.Modules as users write them."""

import torch
from torch import nn

from gradalign_cli.models.module import module as module_model
from tests.models.test_resnet import ModuleResNet18


class Everything(nn.Module):
    """BatchNorm, dropout, a convolution with stride, dilation and groups, a layer that is used
    twice, a parameter without a layer and a frozen one."""

    def __init__(self, outputs, channels, momentum=0.1, dropout=0.25):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding="same", padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(4, momentum=momentum)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
        self.shift = nn.Parameter(torch.zeros(6, 1, 1))
        self.frozen = nn.Parameter(torch.ones(6, 1, 1), requires_grad=False)
        self.twice = nn.Linear(24, 24)
        self.drop = nn.Dropout(dropout, inplace=True)
        self.head = nn.Linear(24, outputs)

    def forward(self, x):
        h = torch.relu_(self.norm(self.conv(x)))
        h = torch.relu(self.grouped(h) * self.frozen + self.shift).flatten(1)
        h = torch.relu(self.twice(torch.relu(self.twice(h))))
        return self.head(self.drop(h))


def everything(shape, outputs, **arguments):
    """`Everything` as a model."""
    settings = {"outputs": "outputs", "channels": "channels", **arguments}
    return module_model("Everything", settings, None, shape, outputs, Everything)


def linear_layers(*, outputs, inputs=16):
    """Linear layers alone."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 5), nn.ReLU(), nn.Linear(5, outputs))


def cifar_resnet18(outputs, width=64):
    """The ResNet18 of torchvision's layers with the stem of CIFAR: 3 x 3, stride 1, no pooling."""
    return ModuleResNet18(width, outputs)


class LooksAtNumbers(nn.Module):
    """A linear layer whose pass depends on a value, so that it can neither be batched nor recorded,
    and holds a tensor that is no buffer."""

    def __init__(self, outputs):
        super().__init__()
        self.linear, self.scale = nn.Linear(16, outputs), torch.ones(1)

    def forward(self, x):
        x = x.flatten(1)
        return self.linear(x * self.scale if x.mean() > 0 else x)
