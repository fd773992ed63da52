import pytest
import torch
from torchvision.transforms import RandomErasing

from gradalign_cli.augmentations.erase import erase
from gradalign_cli.errors import UserError
from tests.augmentations.pictures import (
    SHAPE,
    assert_same_distribution,
    augmented,
    picture,
    versions,
)


@pytest.mark.parametrize(("areas", "ratio"), [((0.1, 0.4), 2.0), ((0.5, 1.0), 4.0)])
def test_rectangles_are_distributed_as_torchvisions_also_where_many_do_not_fit(areas, ratio):
    image = picture()
    theirs = versions(RandomErasing(0.8, areas, (1 / ratio, ratio)), image, 2000)
    ours = augmented(erase(0.8, *areas, ratio, SHAPE), image, 2000)
    assert_same_distribution(ours, theirs)
    erased, erased_there = ((images == 0).double().mean((1, 2, 3)) for images in (ours, theirs))
    assert erased.max() == erased_there.max()
    error = (erased.var() / 2000 + erased_there.var() / 2000).sqrt()
    assert (erased.mean() - erased_there.mean()).abs() < 5 * error


def test_what_is_erased_is_one_rectangle_in_all_channels():
    for result in augmented(erase(1.0, 0.1, 0.4, 2.0, SHAPE), picture(), 50):
        black = result == 0
        assert torch.equal(black, black[:1].expand_as(black))
        rows, columns = black[0].any(1), black[0].any(0)
        assert torch.equal(black[0], rows[:, None] & columns)
        assert rows.diff().sum() <= 2
        assert columns.diff().sum() <= 2
        assert black.any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((2.0, 0.1, 0.2, 2.0), r"`augment.erase_probability` must be in \[0, 1\], found 2.0"),
        ((0.5, 0.0, 0.2, 2.0), "`augment.least_area` must be above 0 and at most 1, found 0.0"),
        ((0.5, 0.3, 0.2, 2.0), r"`augment.largest_area` must be in \[0.3, 1\], found 0.2"),
        ((0.5, 0.1, 0.2, 0.5), "`augment.largest_ratio` must be at least 1, found 0.5"),
    ],
)
def test_values_out_of_range_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        erase(*settings, SHAPE)
