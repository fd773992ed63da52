"""Crop: an image moves by up to `padding` pixels in a black frame (RandomCrop of torchvision)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradalign_cli.augmentations.augmentation import Augmentation, ImageShape, whole_numbers
from gradalign_cli.errors import require


def crop(padding: int, shape: ImageShape) -> Augmentation:
    """A cutout of the image's size, at a random place of the image with `padding` black pixels
    around it; each of the (2 padding + 1)^2 places is equally likely.

    shape: of an image.
    """
    _, height, width = shape
    largest = min(height, width)
    require(0 < padding <= largest, "augment.padding", f"at least 1 and at most {largest}", padding)

    def apply(images: Tensor, uniform: Tensor) -> Tensor:
        device = images.device
        top, left = whole_numbers(uniform, 2 * padding + 1).unbind(1)
        rows = top[:, None] + torch.arange(height, device=device)
        columns = left[:, None] + torch.arange(width, device=device)
        pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None]
        framed = pad(images, (padding,) * 4).flatten(2)
        index = pixels.flatten(1)[:, None].expand(-1, images.shape[1], -1)
        return framed.gather(2, index).view(images.shape)

    return Augmentation(2, apply)
