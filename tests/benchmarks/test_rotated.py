import numpy as np
import pytest
import torch
from PIL import Image

from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.benchmarks.rotated import rotated, rotation
from gradalign_cli.errors import UserError


# at 45 degrees sources lie on the borders of pixels, where rounding decides
@pytest.mark.parametrize("degrees", [0, 7.3, 44.5, 90, 133.7, 180, 270, 359])
@pytest.mark.parametrize("size", [(28, 28), (9, 6)])
def test_a_rotation_is_pillows(degrees, size):
    image = np.random.default_rng(0).integers(1, 256, size, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).rotate(degrees))
    flat = np.append(image.flatten(), 0)
    assert np.array_equal(flat[rotation(degrees, 1, *size).numpy()].reshape(size), expected)


def test_colour_planes_turn_together():
    source = rotation(30, 3, 5, 5).view(3, 25)
    inside = source[0] < 25
    assert torch.equal(source[1][inside], source[0][inside] + 25)
    assert (source[:, ~inside] == 75).all()


def angles(dataset, kind, degrees, seed):
    """The pixel maps of four rotated tasks."""
    benchmark = rotated(dataset, 4, kind, degrees)
    return benchmark.make_stream(seed).view.pixel_source


def test_fixed_steps_turn_each_task_further(tiny):
    pixels = angles(tiny, "steps", 20.0, 0)
    for task in range(4):
        assert torch.equal(pixels[task], rotation(20.0 * task, 1, 4, 4))
    assert torch.equal(pixels, angles(tiny, "steps", 20.0, 1))


@pytest.mark.parametrize("kind", ["intervals", "uniform"])
def test_drawn_angles_stay_in_their_range(kind, tiny, monkeypatch):
    import gradalign_cli.benchmarks.rotated as module

    drawn = []
    monkeypatch.setattr(
        module, "rotation", lambda degrees, *size: drawn.append(degrees) or rotation(0, *size)
    )
    for seed in range(20):
        angles(tiny, kind, 180.0, seed)
    drawn = np.array(drawn).reshape(20, 4)
    low = 45.0 * np.arange(4) if kind == "intervals" else np.zeros(4)
    assert (drawn >= low).all()
    assert (drawn < low + (45 if kind == "intervals" else 180)).all()
    assert len(np.unique(drawn)) == 80


def test_what_turns_in_from_outside_is_black(tiny):
    benchmark = rotated(tiny, 2, "steps", 45.0)
    view = benchmark.make_stream(0).view
    x = load_examples(benchmark, view, torch.arange(3), torch.tensor([1]), torch.ones(3)).images
    assert (x[:, 0, 0, 0] == 0).all()
    assert (x[:, 0, 1:3, 1:3] > 0).all()


def test_an_unknown_rule_is_refused(tiny):
    with pytest.raises(UserError, match=r"`benchmark.angles` must be one of intervals, uniform"):
        rotated(tiny, 2, "odd", 1.0)
