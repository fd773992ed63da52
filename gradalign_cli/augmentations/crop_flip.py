"""Crop and flip, as protocols on CIFAR augment their images (He et al. 2016, sec. 4.2)."""

from gradalign_cli.augmentations.augmentation import Augmentation, ImageShape, in_turn
from gradalign_cli.augmentations.crop import crop
from gradalign_cli.augmentations.flip import flip


def crop_flip(padding: int, flip_probability: float, shape: ImageShape) -> Augmentation:
    """`crop`, then `flip`."""
    return in_turn(crop(padding, shape), flip(flip_probability, shape))
