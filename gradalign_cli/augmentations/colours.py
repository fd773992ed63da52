"""Brightness, contrast, saturation and hue of images, as torchvision's functional transforms of
float images define them. Images are [n, channels, height, width] in [0, 1]."""

import torch
from torch import Tensor


def luminance(images: Tensor) -> Tensor:
    """The luminance [n, 1, height, width] of images of three channels (ITU-R 601-2); images of one
    channel as they are."""
    if images.shape[1] == 1:
        return images
    r, g, b = images.unbind(1)
    return (0.2989 * r + 0.587 * g + 0.114 * b)[:, None]


def clamped_blend(images: Tensor, base: Tensor, image_weight: Tensor) -> Tensor:
    """image_weight * images + (1 - image_weight) * base, cut to [0, 1];  image_weight: [n]."""
    weight = image_weight[:, None, None, None]
    return (weight * images + (1 - weight) * base).clamp(0, 1)


def with_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with black; factor [n], 1 changes nothing."""
    return clamped_blend(images, torch.zeros_like(images), factor)


def with_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with the mean of their luminance; factor [n], 1 changes nothing."""
    return clamped_blend(images, luminance(images).mean((1, 2, 3), keepdim=True), factor)


def with_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with their luminance; factor [n], 1 changes nothing."""
    return clamped_blend(images, luminance(images), factor)


def with_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Images of three channels whose hue is moved by a share of the circle; turns [n].

    In the hexagon of hues (Smith 1978) red is at 0, green at 2 and blue at 4 sixths. A channel is
    the largest one's value, less the chroma where the hue is far from the channel's place.
    """
    r, g, b = images.unbind(1)
    largest = images.amax(1)
    chroma = largest - images.amin(1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    after_red, after_green, after_blue = (g - b) / divisor, (b - r) / divisor, (r - g) / divisor
    of_green_or_blue = torch.where(largest == g, 2 + after_green, 4 + after_blue)
    sixths = torch.where(largest == r, after_red, of_green_or_blue) + 6 * turns[:, None, None]
    channels = []
    for place in (5, 3, 1):  # of red, green and blue in the distance below
        distance = (place + sixths).remainder(6)
        lost = torch.minimum(distance, 4 - distance).clamp(0, 1)
        channels.append(largest - chroma * lost)
    return torch.stack(channels, 1)
