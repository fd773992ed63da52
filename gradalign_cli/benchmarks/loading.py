"""Loading: rows of a dataset become what the network sees."""

from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, View
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.numerics.trees import Absent, take_rows


def load_examples(
    benchmark: Benchmark,
    view: View,
    row: Tensor,
    task: Tensor,
    weight: Tensor | Absent = (),
    noise: Tensor | Absent = (),
) -> Examples:
    """The examples of rows [..., n] as tasks [..., n] (or [..., 1]) see them."""
    x = take_rows(benchmark.images, row) / 255
    if isinstance(
        view.pixel_source, Tensor
    ):  # threads share a gather of floats better than one of bytes
        x = x.gather(-1, take_rows(view.pixel_source, task).expand(*row.shape, -1))
    if isinstance(benchmark.pixel_offset, Tensor):
        x = x - benchmark.pixel_offset
    if isinstance(benchmark.pixel_scale, Tensor):
        x = x / benchmark.pixel_scale
    x = x.view(*row.shape, *benchmark.image_shape)
    if isinstance(benchmark.task_mean_std, Tensor):
        mean, deviation = take_rows(benchmark.task_mean_std, task)[..., None, None].unbind(-4)
        x = (x - mean) / deviation
    visible = view.visible_logits
    if isinstance(visible, Tensor):
        visible = take_rows(visible, task).expand(*row.shape, -1)
    label = take_rows(view.logit_of_class, take_rows(benchmark.labels, row))
    stored = x.new_zeros(*row.shape, 0)
    return Examples(x, label, visible, weight, stored, noise)
