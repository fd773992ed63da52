"""Jitter: brightness, contrast, saturation and hue change at random (torchvision's ColorJitter)."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from gradalign_cli.augmentations.augmentation import Augmentation, ImageShape, where_image
from gradalign_cli.augmentations.colours import (
    with_brightness,
    with_contrast,
    with_hue,
    with_saturation,
)
from gradalign_cli.errors import UserError, require


class ColourChange(NamedTuple):
    """change: (images [n, ...], numbers [n]) -> images;  lowest, highest: the range
    of the numbers."""

    change: Callable[[Tensor, Tensor], Tensor]
    lowest: float
    highest: float


def colour_changes(
    brightness: float, contrast: float, saturation: float, hue: float, channels: int
) -> list[ColourChange]:
    """The changes that `jitter` makes, those of strength 0 left out. Images of one channel have no
    saturation and no hue.

    Raises UserError where a strength is out of its domain or images have other channels.
    """
    if channels not in (1, 3):
        raise UserError(f"`augment` jitters images of 1 or 3 channels, found {channels}")
    factors = (
        ("brightness", with_brightness, brightness),
        ("contrast", with_contrast, contrast),
        ("saturation", with_saturation, saturation),
    )
    for name, _, strength in factors:
        require(strength >= 0, f"augment.{name}", "non-negative", strength)
    require(0 <= hue <= 0.5, "augment.hue", "in [0, 0.5]", hue)
    coloured = [*factors] if channels == 3 else [*factors[:2]]
    changes: list[ColourChange] = [
        ColourChange(change, max(0, 1 - strength), 1 + strength)
        for _, change, strength in coloured
        if strength
    ]
    if hue and channels == 3:
        changes.append(ColourChange(with_hue, -hue, hue))
    return changes


def jitter(
    brightness: float, contrast: float, saturation: float, hue: float, shape: ImageShape
) -> Augmentation:
    """Every image's brightness, contrast and saturation are multiplied by random factors, each
    uniform in [max(0, 1 - strength), 1 + strength], and its hue moves by a share of the circle that
    is uniform in [-hue, hue], in a random order of these changes.
    """
    changes = colour_changes(brightness, contrast, saturation, hue, shape[0])
    count = len(changes)

    def apply(images: Tensor, uniform: Tensor) -> Tensor:
        numbers, order = uniform[:, :count].unbind(1), uniform[:, count:].argsort(1)
        for turn in range(count):
            images_before = images
            for number, (change, low, high) in enumerate(changes):
                changed = change(images_before, low + (high - low) * numbers[number])
                images = where_image(order[:, turn] == number, changed, images)
        return images

    return Augmentation(2 * count, apply)
