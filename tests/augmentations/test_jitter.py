import pytest
import torch
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as transforms

from gradalign_cli.augmentations.jitter import jitter
from gradalign_cli.errors import UserError
from tests.augmentations.pictures import (
    SHAPE,
    assert_same_distribution,
    augmented,
    numbers,
    picture,
    versions,
)

STRENGTHS = (0.5, 1.5, 0.7, 0.2)


def test_equal_decisions_give_torchvisions_images():
    augmentation, image = jitter(*STRENGTHS, SHAPE), picture()
    image[:, 0] = image[0, 0]  # a row without colours
    uniform = numbers(augmentation, 50)
    ranges = [(0.5, 1.5), (0.0, 2.5), (0.3, 1.7), (-0.2, 0.2)]
    adjust = (
        transforms.adjust_brightness,
        transforms.adjust_contrast,
        transforms.adjust_saturation,
        transforms.adjust_hue,
    )
    results = augmentation.apply(image.expand(50, *SHAPE), uniform)
    for row, result in zip(uniform, results, strict=True):
        expected = image
        for k in row[4:].argsort().tolist():
            low, high = ranges[k]
            expected = adjust[k](expected, low + (high - low) * float(row[k]))
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_colours_are_distributed_as_torchvisions():
    image = picture()
    theirs = versions(ColorJitter(*STRENGTHS), image, 1000)
    assert_same_distribution(augmented(jitter(*STRENGTHS, SHAPE), image, 1000), theirs)


def test_changes_of_strength_0_take_no_numbers():
    assert jitter(0.4, 0.0, 0.0, 0.1, SHAPE).uniforms_per_image == 4
    nothing = jitter(0.0, 0.0, 0.0, 0.0, SHAPE)
    assert nothing.uniforms_per_image == 0
    assert torch.equal(augmented(nothing, picture(), 2)[0], picture())


def test_images_of_one_channel_have_brightness_and_contrast_alone():
    grey = picture((1, 8, 6))
    theirs = versions(ColorJitter(*STRENGTHS), grey, 1000)
    augmentation = jitter(*STRENGTHS, (1, 8, 6))
    assert augmentation.uniforms_per_image == 4
    assert_same_distribution(augmented(augmentation, grey, 1000), theirs)


@pytest.mark.parametrize(
    ("strengths", "shape", "sentence"),
    [
        ((-0.1, 0.0, 0.0, 0.0), SHAPE, "`augment.brightness` must be non-negative, found -0.1"),
        ((0.0, 0.0, 0.0, 0.6), SHAPE, r"`augment.hue` must be in \[0, 0.5\], found 0.6"),
        (STRENGTHS, (2, 8, 8), "`augment` jitters images of 1 or 3 channels, found 2"),
    ],
)
def test_what_has_no_colours_or_is_no_strength_is_refused(strengths, shape, sentence):
    with pytest.raises(UserError, match=sentence):
        jitter(*strengths, shape)
