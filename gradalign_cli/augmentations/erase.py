"""Erase: a random rectangle of an image becomes black (Zhong et al. 2020, alg. 1; RandomErasing of
torchvision)."""

import math

import torch
from torch import Tensor

from gradalign_cli.augmentations.augmentation import (
    Augmentation,
    ImageShape,
    where_image,
    whole_numbers,
)
from gradalign_cli.errors import require

ATTEMPTS = 10  # rectangles that are drawn for an image until one fits, as torchvision has it


def erase(
    erase_probability: float,
    least_area: float,
    largest_area: float,
    largest_ratio: float,
    shape: ImageShape,
) -> Augmentation:
    """With probability `erase_probability` a rectangle of an image is set to 0, before pixels are
    standardised.

    Its area is uniform between two shares of the image's, and the logarithm of its ratio of height
    to width uniform between those of 1 / largest_ratio and largest_ratio. A rectangle that is as
    high or as wide as the image does not fit and is drawn anew, up to ten times; then nothing is
    erased. All its places in the image are equally likely.
    """
    probability, (_, height, width) = erase_probability, shape
    require(0 <= probability <= 1, "augment.erase_probability", "in [0, 1]", probability)
    require(0 < least_area <= 1, "augment.least_area", "above 0 and at most 1", least_area)
    in_range = least_area <= largest_area <= 1
    require(in_range, "augment.largest_area", f"in [{least_area}, 1]", largest_area)
    require(largest_ratio >= 1, "augment.largest_ratio", "at least 1", largest_ratio)

    def rectangles(uniform: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width [n] of each image's rectangle; of size 0 where none fits."""
        drawn = uniform[:, 3:].view(-1, ATTEMPTS, 2)
        area = height * width * (least_area + (largest_area - least_area) * drawn[..., 0])
        ratio = (math.log(largest_ratio) * (2 * drawn[..., 1] - 1)).exp()
        heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (heights < height) & (widths < width)
        first_that_fits = fits & (fits.cumsum(1) == 1)
        rows, columns = ((size * first_that_fits).sum(1).long() for size in (heights, widths))
        top = whole_numbers(uniform[:, 1], height - rows + 1)
        left = whole_numbers(uniform[:, 2], width - columns + 1)
        return top, left, rows, columns

    def apply(images: Tensor, uniform: Tensor) -> Tensor:
        top, left, rows, columns = (each[:, None] for each in rectangles(uniform))
        y = torch.arange(height, device=images.device)
        x = torch.arange(width, device=images.device)
        in_rows, in_columns = (y >= top) & (y < top + rows), (x >= left) & (x < left + columns)
        inside = (in_rows[:, :, None] & in_columns[:, None])[:, None]
        return where_image(uniform[:, 0] < probability, images.masked_fill(inside, 0.0), images)

    return Augmentation(3 + 2 * ATTEMPTS, apply)
