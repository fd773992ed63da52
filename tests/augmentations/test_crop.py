import pytest
import torch
from torchvision.transforms import RandomCrop
from torchvision.transforms import functional as transforms

from gradalign_cli.augmentations.crop import crop
from gradalign_cli.errors import UserError
from tests.augmentations.pictures import (
    SHAPE,
    assert_same_distribution,
    augmented,
    picture,
    versions,
)


def test_every_place_gives_the_crop_that_torchvision_cuts_there():
    image, (_, height, width) = picture(), SHAPE
    places = [(top, left) for top in range(5) for left in range(5)]
    uniform = (torch.tensor(places) + 0.5) / 5
    crops = crop(2, SHAPE).apply(image.expand(25, *SHAPE), uniform)
    framed = transforms.pad(image, 2)
    for (top, left), cut in zip(places, crops, strict=True):
        assert torch.equal(cut, transforms.crop(framed, top, left, height, width))


def test_crops_are_distributed_as_torchvisions():
    image = picture()
    theirs = versions(RandomCrop(SHAPE[1:], padding=2), image, 2000)
    assert_same_distribution(augmented(crop(2, SHAPE), image, 2000), theirs)


def test_the_largest_number_is_a_place_too():
    last = crop(2, SHAPE).apply(picture()[None], torch.full((1, 2), 1 - 2**-24))
    assert torch.equal(last[0, :, :-2, :-2], picture()[:, 2:, 2:])


@pytest.mark.parametrize("padding", [0, -1, 7])
def test_a_frame_that_is_no_frame_or_wider_than_the_image_is_refused(padding):
    with pytest.raises(UserError, match=r"`augment.padding` must be at least 1 and at most 6"):
        crop(padding, SHAPE)
