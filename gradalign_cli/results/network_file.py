"""`network.safetensors`: the networks of a finished run, with all that a task's test needs of them.

The file holds tensors alone, and is checked against what the run's config builds before one is
used.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from gradalign_cli.benchmarks.benchmark import Benchmark, TaskViews
from gradalign_cli.errors import UserError, require
from gradalign_cli.files.reading import open_regular
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import CPU, to_device
from gradalign_cli.numerics.trees import Absent, tree_index
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.training.replica import Replica

NETWORK_FILE = "network.safetensors"
TASK_VIEW_FIELDS = (
    "pixel_source",
    "visible_logit_mask",
    "logit_of_class",
)  # [R, ...] of the replicas
NORMALISATION_FIELDS = ("pixel_mean", "pixel_std", "task_mean_std")  # of the benchmark
LARGEST_NUMBER = 10**6  # of pixels, logits, tasks


class BenchmarkSizes(NamedTuple):
    """image_shape: (channels, height, width) that the network sees;  stored_pixels: of an image
    before that, where one of the task's pixels may be a blank one behind the image's own."""

    image_shape: tuple[int, int, int]
    stored_pixels: int
    outputs: int
    tasks: int


class TrainedNetworks(NamedTuple):
    """The networks of R replicas.

    params:     [R, V, P] of the test of each task, V = T, or V = 1 where they are the same.
    statistics: [R, S].
    sizes:      of the benchmark.
    normalisation_tensors, task_view_tensors: what `NORMALISATION_FIELDS` and `TASK_VIEW_FIELDS`
                name, or absent.
    """

    params: Tensor
    statistics: Tensor
    sizes: BenchmarkSizes
    normalisation_tensors: dict[str, Tensor | Absent]
    task_view_tensors: dict[str, Tensor | Absent]


def sizes_of(benchmark: Benchmark) -> BenchmarkSizes:
    """The sizes of a benchmark."""
    return BenchmarkSizes(
        benchmark.image_shape, benchmark.images.shape[1], benchmark.outputs, benchmark.tasks
    )


def network_file(parts: Parts, replicas: Sequence[Replica], learners: Learner) -> bytes:
    """The content of `network.safetensors` for learners [R, ...] at the end of their run."""
    benchmark = parts.benchmark
    views = [replica.stream.view for replica in replicas]
    tensors: dict[str, Tensor] = {
        "params": torch.stack([tested_params(parts, learners, r) for r in range(len(replicas))]),
        "statistics": learners.statistics,
    }
    for name in TASK_VIEW_FIELDS:
        if isinstance(getattr(views[0], name), Tensor):
            tensors[name] = torch.stack([getattr(view, name) for view in views])
    for name in NORMALISATION_FIELDS:
        if isinstance(getattr(benchmark, name), Tensor):
            tensors[name] = getattr(benchmark, name)
    # one entry, as safetensors writes several in an order of its own
    sizes = {"sizes": json.dumps(sizes_of(benchmark)._asdict())}
    contiguous = {name: tensor.detach().to(CPU).contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, sizes)


def tested_params(parts: Parts, learners: Learner, replica: int) -> Tensor:
    """The parameters [V, P] that a replica's tests of the tasks are with."""
    learner = tree_index(learners, replica)
    versions = [
        parts.method.test_params(learner.method_state, learner.params, task, parts.model.layers)
        for task in range(parts.benchmark.tasks)
    ]
    alike = all(torch.equal(version, versions[0]) for version in versions)
    return torch.stack(versions[:1] if alike else versions)


def read_sizes(path: Path) -> BenchmarkSizes:
    """The sizes in the header of a file. UserError where it is no such file."""
    open_regular(path).close()
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = file.metadata() or {}
        values = json.loads(header["sizes"])
        shape = values.pop("image_shape")
        sizes = BenchmarkSizes((shape[0], shape[1], shape[2]), **values)
    except Exception as error:  # a damaged or hostile file can raise anything
        raise UserError(f"{path} must be a {NETWORK_FILE} of gradalign ({error})") from error
    numbers = [*sizes.image_shape, *sizes[1:]]
    valid = all(type(number) is int and 0 < number <= LARGEST_NUMBER for number in numbers)
    require(
        valid and len(shape) == 3, str(path), "a file with sizes that are whole numbers", values
    )
    return sizes


def read_networks(path: Path, model: Model, replicas: int) -> TrainedNetworks:
    """The networks in a file, for the model that the config of their run builds.

    replicas: how many that config has. Raises UserError, naming the tensor, where a shape or type
    is another, or a number cannot be one of a trained network.
    """
    sizes = read_sizes(path)
    tasks, pixels = sizes.tasks, sizes.stored_pixels
    count = sum(layer.size for layer in model.layers)
    classes = -1  # any number
    allowed_tensors = {
        "params": AllowedTensor([(replicas, 1, count), (replicas, tasks, count)], torch.float32),
        "statistics": AllowedTensor([(replicas, len(model.initial_statistics))], torch.float32),
        "pixel_source": AllowedTensor([(replicas, tasks, prod(sizes.image_shape))], torch.int64),
        "visible_logit_mask": AllowedTensor([(replicas, tasks, sizes.outputs)], torch.bool),
        "logit_of_class": AllowedTensor([(replicas, classes)], torch.int64),
        "pixel_mean": AllowedTensor([(pixels,)], torch.float32),
        "pixel_std": AllowedTensor([(pixels,)], torch.float32),
        "task_mean_std": AllowedTensor([(tasks, 2, sizes.image_shape[0])], torch.float32),
    }
    tensors = read_checked_tensors(path, allowed_tensors)
    for name in ("params", "statistics", "logit_of_class"):
        require(name in tensors, str(path), f"a file with `{name}`", sorted(tensors))
    finite = torch.isfinite(model.initial_statistics)  # a mask of attention may be infinite
    check_values(path, tensors | {"statistics": tensors["statistics"][:, finite]}, sizes)
    return TrainedNetworks(
        tensors["params"],
        tensors["statistics"],
        sizes,
        {name: tensors.get(name, ()) for name in NORMALISATION_FIELDS},
        {name: tensors.get(name, ()) for name in TASK_VIEW_FIELDS},
    )


def check_values(path: Path, tensors: dict[str, Tensor], sizes: BenchmarkSizes) -> None:
    """Raise UserError, naming the tensor, where a number of a file cannot be one of a trained
    network: it is not finite, divides by zero, is no place of a pixel or a logit, or leaves a task
    without logits."""
    for name, tensor in tensors.items():
        finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        require(finite, str(path), f"a file whose `{name}` is finite", "NaN or infinity")
    deviations = {
        "pixel_std": tensors.get("pixel_std"),
        "task_mean_std": tensors["task_mean_std"][:, 1] if "task_mean_std" in tensors else None,
    }
    for name, deviation in deviations.items():
        positive = deviation is None or bool((deviation > 0).all())
        require(positive, str(path), f"a file whose deviations in `{name}` are positive", "others")
    source, logits = tensors.get("pixel_source"), tensors["logit_of_class"]
    require(logits.shape[1] > 0, str(path), "a file with classes in `logit_of_class`", "none")
    for name, indices, end in (
        ("pixel_source", source, sizes.stored_pixels),
        ("logit_of_class", logits, sizes.outputs),
    ):
        inside = indices is None or (int(indices.min()) >= 0 and int(indices.max()) < end)
        require(inside, str(path), f"a file whose `{name}` is in 0..{end - 1}", "others")
    mask = tensors.get("visible_logit_mask")
    sees = mask is None or bool(mask.any(-1).all())
    domain = "a file whose `visible_logit_mask` leaves every task a logit"
    require(sees, str(path), domain, "a task without")


def prod(shape: Sequence[int]) -> int:
    """The number of entries of a shape."""
    return int(torch.Size(shape).numel())


class AllowedTensor(NamedTuple):
    """What a tensor of a file may be: of one of the shapes, where -1 stands for any number, and of
    the type."""

    shapes: list[tuple[int, ...]]
    dtype: torch.dtype


def read_checked_tensors(
    path: Path, allowed_tensors: dict[str, AllowedTensor]
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each as is allowed for its name; the header is checked
    before a tensor is read."""
    tensors = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            require(name in allowed_tensors, str(path), "a file without other tensors", name)
            shapes, dtype = allowed_tensors[name]
            shape = tuple(file.get_slice(name).get_shape())
            fits = any(
                len(shape) == len(each)
                and all(
                    size in (length, size if length < 0 else -1)
                    for size, length in zip(shape, each, strict=True)
                )
                for each in shapes
            )
            require(fits, str(path), f"a file whose `{name}` has the shape {shapes[-1]}", shape)
            tensors[name] = file.get_tensor(name)
            require(tensors[name].dtype == dtype, str(path), f"of {dtype} in `{name}`", "another")
    return tensors


def view_of(networks: TrainedNetworks, replica: int) -> TaskViews:
    """How the tasks of a replica saw the images."""
    fields = {
        name: tensor[replica] if isinstance(tensor, Tensor) else ()
        for name, tensor in networks.task_view_tensors.items()
    }
    logit_of_class = fields["logit_of_class"]
    assert isinstance(logit_of_class, Tensor)
    return TaskViews(
        fields["pixel_source"],
        fields["visible_logit_mask"],
        logit_of_class,
        torch.zeros_like(logit_of_class),
    )


def with_trained_normalisation(benchmark: Benchmark, networks: TrainedNetworks) -> Benchmark:
    """The benchmark with the means and deviations of pixels that the networks were trained with, on
    the device of its labels."""
    return benchmark._replace(
        **to_device_dict(networks.normalisation_tensors, benchmark.labels.device)
    )


def to_device_dict(tensors: dict[str, Tensor | Absent], device: torch.device) -> dict[str, Any]:
    """The tensors on a device."""
    return {name: to_device(tensor, device) for name, tensor in tensors.items()}
