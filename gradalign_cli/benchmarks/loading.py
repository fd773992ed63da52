"""Loading: rows of a dataset become the images and targets that the network sees."""

from collections.abc import Callable

from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, TaskViews
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.numerics.trees import Absent, take_rows

ImageChange = Callable[[Tensor], Tensor]  # of images [n, channels, height, width]


def load_examples(
    benchmark: Benchmark,
    view: TaskViews,
    rows: Tensor,
    tasks: Tensor | int,
    valid: Tensor | Absent = (),
    noise_keys: Tensor | Absent = (),
    augment: ImageChange | None = None,
) -> Examples:
    """The examples of rows [..., n] as tasks [..., n], or [..., 1] or a number for one task, see
    them.

    valid, noise_keys: [..., n] or absent, handed on as in `Examples`. Stored logits are none.
    augment: changes the images of all rows, in [0, 1] and as their tasks see them, before they are
    standardised.
    """
    images = stored_images(benchmark, rows) / 255
    images = prepared_images(benchmark, view, images, tasks, augment)
    visible_logit_mask = view.visible_logit_mask
    if isinstance(visible_logit_mask, Tensor):
        visible_logit_mask = take_rows(visible_logit_mask, tasks).expand(*rows.shape, -1)
    target = target_logits(benchmark, view, rows)
    no_logits = images.new_zeros(*rows.shape, 0)
    return Examples(images, target, visible_logit_mask, valid, no_logits, noise_keys)


def target_logits(benchmark: Benchmark, view: TaskViews, rows: Tensor) -> Tensor:
    """The logit [...] of the right class of rows [...]."""
    return take_rows(view.logit_of_class, take_rows(benchmark.labels, rows))


def stored_images(benchmark: Benchmark, rows: Tensor) -> Tensor:
    """The images [..., n, pixels] of rows [..., n], uint8, on the device of the rows; images on the
    host are copied, which a captured step may not do."""
    places, place_of_row = rows, benchmark.place_of_row
    if isinstance(place_of_row, Tensor):
        places = take_rows(place_of_row, rows)
    return take_rows(benchmark.images, places.to(benchmark.images.device)).to(rows.device)


def prepared_images(
    benchmark: Benchmark,
    view: TaskViews,
    scaled_images: Tensor,
    tasks: Tensor | int,
    augment: ImageChange | None = None,
) -> Tensor:
    """Images [..., n, pixels], scaled to [0, 1], as the network sees them, [..., n, channels,
    height, width]; tasks and `augment` as in `load_examples`."""
    images, rows_shape = scaled_images, scaled_images.shape[:-1]
    if isinstance(view.pixel_source, Tensor):
        # after the division, as threads share a gather of floats better than one of bytes
        images = images.gather(-1, take_rows(view.pixel_source, tasks).expand(*rows_shape, -1))
    if augment is not None:
        images = augment(images.view(-1, *benchmark.image_shape)).reshape(*rows_shape, -1)
    if isinstance(benchmark.pixel_mean, Tensor):
        images = images - benchmark.pixel_mean
    if isinstance(benchmark.pixel_std, Tensor):
        images = images / benchmark.pixel_std
    images = images.view(*rows_shape, *benchmark.image_shape)
    if isinstance(benchmark.task_mean_std, Tensor):
        mean, std = take_rows(benchmark.task_mean_std, tasks)[..., None, None].unbind(-4)
        images = (images - mean) / std
    return images
