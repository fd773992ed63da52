"""Flip: left and right change places in some images (RandomHorizontalFlip of torchvision)."""

from torch import Tensor

from gradalign_cli.augmentations.augmentation import Augmentation, ImageShape, where_image
from gradalign_cli.errors import require


def flip(flip_probability: float, shape: ImageShape) -> Augmentation:
    """Each image is mirrored with probability `flip_probability`."""
    require(0 <= flip_probability <= 1, "augment.flip_probability", "in [0, 1]", flip_probability)

    def apply(images: Tensor, uniform: Tensor) -> Tensor:
        return where_image(uniform[:, 0] < flip_probability, images.flip(-1), images)

    return Augmentation(1, apply)
