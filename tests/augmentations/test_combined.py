import pytest
import torch

from gradalign_cli.augmentations.combined import combined
from gradalign_cli.augmentations.crop import crop
from gradalign_cli.augmentations.erase import erase
from gradalign_cli.augmentations.flip import flip
from gradalign_cli.augmentations.jitter import jitter
from gradalign_cli.errors import UserError
from tests.augmentations.pictures import SHAPE, numbers, picture

JITTER, ERASE = (0.4, 0.4, 0.4, 0.1), (0.5, 0.1, 0.4, 2.0)
SETTINGS = (2, 0.5, *JITTER, *ERASE, SHAPE)


def test_augmentations_follow_each_other_in_the_order_and_with_numbers_of_their_own():
    alone = {
        "crop": crop(2, SHAPE),
        "flip": flip(0.5, SHAPE),
        "jitter": jitter(*JITTER, SHAPE),
        "erase": erase(*ERASE, SHAPE),
    }
    for order in (["crop", "flip", "jitter", "erase"], ["erase", "crop"], ["flip"]):
        augmentation = combined(order, *SETTINGS)
        uniform, start = numbers(augmentation, 20), 0
        expected = picture().expand(20, *SHAPE)
        for name in order:
            stop = start + alone[name].uniforms_per_image
            expected, start = alone[name].apply(expected, uniform[:, start:stop]), stop
        assert start == augmentation.uniforms_per_image
        assert torch.equal(augmentation.apply(picture().expand(20, *SHAPE), uniform), expected)


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ([], "`augment.order` must be one name or more, each at most once"),
        (["crop", "crop"], "`augment.order` must be one name or more, each at most once"),
        (["rotate"], "`augment.order` must be one of crop, flip, jitter, erase, found 'rotate'"),
    ],
)
def test_an_order_of_nothing_of_repetitions_or_of_strangers_is_refused(order, sentence):
    with pytest.raises(UserError, match=sentence):
        combined(order, *SETTINGS)
