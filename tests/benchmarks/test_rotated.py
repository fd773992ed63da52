import numpy as np
import pytest
import torch
from PIL import Image

from gradalign_cli.benchmarks import rotated as module
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.benchmarks.rotated import rotated, rotation_pixel_source
from gradalign_cli.errors import UserError


# at 45 degrees sources lie on the borders of pixels, where rounding decides
@pytest.mark.parametrize("degrees", [0, 7.3, 44.5, 90, 133.7, 180, 270, 359])
@pytest.mark.parametrize("size", [(28, 28), (9, 6)])
def test_a_rotation_is_pillows(degrees, size):
    image = np.random.default_rng(0).integers(1, 256, size, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).rotate(degrees))
    pixels = np.append(image.flatten(), 0)
    source = rotation_pixel_source(degrees, 1, *size).numpy()
    assert np.array_equal(pixels[source].reshape(size), expected)


def test_all_channels_turn_together():
    source = rotation_pixel_source(30, 3, 5, 5).view(3, 25)
    inside = source[0] < 25
    assert torch.equal(source[1][inside], source[0][inside] + 25)
    assert (source[:, ~inside] == 75).all()


def pixel_sources(dataset, angles, degrees, seed):
    """The pixel sources [4, pixels] of four rotated tasks."""
    return rotated(dataset, 4, angles, degrees).make_stream(seed).view.pixel_source


def test_fixed_steps_turn_each_task_further(tiny):
    sources = pixel_sources(tiny, "steps", 20.0, 0)
    for task in range(4):
        assert torch.equal(sources[task], rotation_pixel_source(20.0 * task, 1, 4, 4))
    assert torch.equal(sources, pixel_sources(tiny, "steps", 20.0, 1))


@pytest.mark.parametrize("angles", ["intervals", "uniform"])
def test_drawn_angles_stay_in_their_range(angles, tiny, monkeypatch):
    drawn = []

    def record_angle(degrees, *image_shape):
        drawn.append(degrees)
        return rotation_pixel_source(0, *image_shape)

    monkeypatch.setattr(module, "rotation_pixel_source", record_angle)
    for seed in range(20):
        pixel_sources(tiny, angles, 180.0, seed)
    drawn = np.array(drawn).reshape(20, 4)
    lowest = 45.0 * np.arange(4) if angles == "intervals" else np.zeros(4)
    assert (drawn >= lowest).all()
    assert (drawn < lowest + (45 if angles == "intervals" else 180)).all()
    assert len(np.unique(drawn)) == 80


def test_pixels_from_outside_the_image_are_black(tiny):
    benchmark = rotated(tiny, 2, "steps", 45.0)
    view = benchmark.make_stream(0).view
    images = load_examples(benchmark, view, torch.arange(3), torch.tensor([1])).images
    assert (images[:, 0, 0, 0] == 0).all()
    assert (images[:, 0, 1:3, 1:3] > 0).all()


def test_an_unknown_rule_is_refused(tiny):
    with pytest.raises(UserError, match=r"`benchmark.angles` must be one of intervals, uniform"):
        rotated(tiny, 2, "odd", 1.0)
