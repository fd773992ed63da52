from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip

from gradalign_cli.augmentations.crop_flip import crop_flip
from tests.augmentations.pictures import (
    SHAPE,
    assert_same_distribution,
    augmented,
    picture,
    versions,
)


def test_crops_and_flips_are_distributed_as_torchvisions_one_after_the_other():
    image = picture()
    both = Compose([RandomCrop(SHAPE[1:], padding=2), RandomHorizontalFlip(0.3)])
    ours = augmented(crop_flip(2, 0.3, SHAPE), image, 2000)
    assert_same_distribution(ours, versions(both, image, 2000))
