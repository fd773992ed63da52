"""Combined: any of the augmentations, in an order that is chosen."""

from typing import Literal

from gradalign_cli.augmentations.augmentation import Augmentation, ImageShape, in_turn
from gradalign_cli.augmentations.crop import crop
from gradalign_cli.augmentations.erase import erase
from gradalign_cli.augmentations.flip import flip
from gradalign_cli.augmentations.jitter import jitter
from gradalign_cli.errors import require, require_choice

Name = Literal["crop", "flip", "jitter", "erase"]


def combined(
    order: list[str],
    padding: int,
    flip_probability: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    erase_probability: float,
    least_area: float,
    largest_area: float,
    largest_ratio: float,
    shape: ImageShape,
) -> Augmentation:
    """The augmentations that `order` names, one after the other, each at most once. The settings of
    those that it does not name have no effect."""
    for name in order:
        require_choice(Name, "augment.order", name)
    once = bool(order) and len(set(order)) == len(order)
    require(once, "augment.order", "one name or more, each at most once", order)
    makers = {
        "crop": lambda: crop(padding, shape),
        "flip": lambda: flip(flip_probability, shape),
        "jitter": lambda: jitter(brightness, contrast, saturation, hue, shape),
        "erase": lambda: erase(erase_probability, least_area, largest_area, largest_ratio, shape),
    }
    return in_turn(*(makers[name]() for name in order))
