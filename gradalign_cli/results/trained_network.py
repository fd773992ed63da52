"""A trained network as a torch.nn.Module."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, TaskViews
from gradalign_cli.benchmarks.examples import mask_logits
from gradalign_cli.benchmarks.loading import prepared_images
from gradalign_cli.errors import UserError, require
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.trees import Absent
from gradalign_cli.results.network_file import (
    NORMALISATION_FIELDS,
    TASK_VIEW_FIELDS,
    TrainedNetworks,
)


class TrainedNetwork(nn.Module):
    """The network of one replica, as it is tested: nothing is dropped, and BatchNorm normalises by
    its running statistics.

    params: [V, P], one row for each task or one for all;  statistics: [S];  logit_of_class:
    [classes] the logit that stands for a class.
    """

    logit_of_class: Tensor
    statistics: Tensor

    def __init__(
        self, model: Model, networks: TrainedNetworks, view: TaskViews, replica: int
    ) -> None:
        super().__init__()
        self.model, self.sizes = model, networks.sizes
        self.params = nn.Parameter(networks.params[replica].clone())
        self.register_buffer("statistics", networks.statistics[replica].clone())
        fields = networks.normalisation_tensors | {
            name: getattr(view, name) for name in TASK_VIEW_FIELDS
        }
        for name, tensor in fields.items():
            self.register_buffer(name, tensor.clone() if isinstance(tensor, Tensor) else None)

    def buffer_or_absent(self, buffer_name: str) -> Tensor | Absent:
        """A buffer, or absent."""
        buffer: Tensor | None = getattr(self, buffer_name)
        return () if buffer is None else buffer

    def forward(self, x: Tensor, task: int) -> Tensor:
        """The logits [n, outputs] of images as a task sees them; those that the task's test leaves
        out, by the scenario of the run, are minus infinity.

        x:    [n, channels, height, width], or [n, pixels], as the benchmark stores them: uint8, or
              floats of any precision in [0, 1]. What the benchmark does to them (a permutation, a
              rotation, a standardisation) happens here.
        task: its number, from 0.
        Raises UserError where the images or the task do not fit.
        """
        sizes = self.sizes
        is_task = type(task) is int and 0 <= task < sizes.tasks  # True is no number
        require(is_task, "task", f"in 0..{sizes.tasks - 1}", task)
        check_images(x, sizes.image_shape)
        scaled = x.to(self.params.dtype) / (255 if x.dtype == torch.uint8 else 1)
        pixels = scaled.flatten(1)
        pixels = pad(pixels, (0, sizes.stored_pixels - pixels.shape[1]))  # with the blank pixel
        benchmark = self.preprocessing_benchmark()
        tasks = torch.full((len(x),), task, device=x.device)
        view = TaskViews(
            self.buffer_or_absent("pixel_source"), (), self.logit_of_class, self.logit_of_class
        )
        images = prepared_images(benchmark, view, pixels, tasks)
        params = self.params[task if len(self.params) > 1 else 0]
        logits = self.model.apply(params, self.statistics, images, False, ()).logits
        mask = self.buffer_or_absent("visible_logit_mask")
        return mask_logits(logits, mask[task] if isinstance(mask, Tensor) else ())

    def preprocessing_benchmark(self) -> Benchmark:
        """What `prepared_images` looks at of a benchmark."""
        sizes, nothing = self.sizes, self.statistics[:0]
        mean, std, task_mean_std = (self.buffer_or_absent(name) for name in NORMALISATION_FIELDS)
        return Benchmark(
            nothing,
            nothing,
            mean,
            std,
            sizes.image_shape,
            sizes.outputs,
            sizes.tasks,
            0,
            "",
            no_stream,
            task_mean_std,
        )


def no_stream(seed: int) -> Stream:
    """A trained network has no stream."""
    raise NotImplementedError


def check_images(x: object, shape: tuple[int, int, int]) -> None:
    """Raise UserError unless x is a tensor of images of a shape (channels, height, width), uint8 or
    floats in [0, 1]."""
    if not isinstance(x, Tensor):
        raise UserError(f"`x` must be a tensor of images, found {type(x).__name__!r}")
    pixels = torch.Size(shape).numel()
    domain = f"images of {pixels} pixels, [n, {', '.join(map(str, shape))}] or [n, {pixels}]"
    fits = x.ndim > 1 and tuple(x.shape[1:]) in (shape, (pixels,))
    require(fits, "x", domain, tuple(x.shape))
    if x.dtype == torch.uint8:
        return
    domain = "uint8, or floats in [0, 1]"
    require(x.is_floating_point(), "x", domain, x.dtype)
    outside = x[~((x >= 0) & (x <= 1))]
    require(not len(outside), "x", domain, float(outside[0]) if len(outside) else None)
