import pytest
import torch
from torchvision.transforms import functional as transforms

from gradalign_cli.augmentations.flip import flip
from gradalign_cli.errors import UserError
from tests.augmentations.pictures import SHAPE, augmented, picture


def test_an_image_is_torchvisions_mirror_image_or_stays():
    image, flipped = picture(), transforms.hflip(picture())
    results = augmented(flip(0.3, SHAPE), image, 2000)
    is_flipped = (results == flipped).flatten(1).all(1)
    assert torch.equal(results[~is_flipped], image.expand_as(results)[~is_flipped])
    assert abs(is_flipped.float().mean() - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_number_that_is_no_probability_is_refused(probability):
    with pytest.raises(UserError, match=r"`augment.flip_probability` must be in \[0, 1\]"):
        flip(probability, SHAPE)
