"""What an augmentation is: a function of images and of random numbers that come with the draw."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

ImageShape = tuple[int, int, int]  # channels, height, width
Images = Tensor  # [n, channels, height, width]
Uniforms = Tensor  # [n, U] in [0, 1)


class Augmentation(NamedTuple):
    """A random change of images that leaves their shape and their classes as they are.

    uniforms_per_image: U, how many random numbers it takes for an image.
    apply:    (images [n, channels, height, width] in [0, 1], uniform [n, U] in [0, 1)) -> images.
              Every image is changed by its own numbers alone. It runs under vmap and in a captured
              step: no Python branch may depend on a tensor's values.
    """

    uniforms_per_image: int
    apply: Callable[[Images, Uniforms], Images]


def in_turn(*augmentations: Augmentation) -> Augmentation:
    """One augmentation after the other, each with random numbers of its own."""
    counts = [augmentation.uniforms_per_image for augmentation in augmentations]

    def apply(images: Tensor, uniform: Tensor) -> Tensor:
        for augmentation, numbers in zip(augmentations, uniform.split(counts, 1), strict=True):
            images = augmentation.apply(images, numbers)
        return images

    return Augmentation(sum(counts), apply)


def whole_numbers(uniform: Tensor, count: Tensor | int) -> Tensor:
    """Whole numbers in 0 .. count - 1 from uniform numbers in [0, 1) of any shape."""
    return (uniform * count).long()


def where_image(mask: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """The changed images [n, ...] where the mask [n] is true, and else the images [n, ...]."""
    return torch.where(mask[:, None, None, None], changed, images)
