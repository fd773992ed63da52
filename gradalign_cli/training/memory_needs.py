"""What a run will need of memory, before it takes it, and the refusal of what cannot fit."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradalign_cli.benchmarks.benchmark import Benchmark
from gradalign_cli.engines.choice import DEFAULT_THREADS
from gradalign_cli.errors import UserError
from gradalign_cli.models.model import Model
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_and_replay_sizes
from gradalign_cli.training.evaluation import TEST_BATCH
from gradalign_cli.training.memory_estimate import (
    COPIES,
    cache_bytes,
    shape_of_learner,
    step_gradient_bytes,
    tensor_bytes,
)
from gradalign_cli.training.plan import Plan, chunk_size
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.step_images import image_bytes

GIB = 2**30
READ_BYTES = 64  # of a slot, in tables of slots and while a step chooses what it reads
SLOT_BYTES = COPIES * 24 + READ_BYTES  # row, task and class are 24
WORTH_SAYING = 1 * GIB
FIRST_USE = 0.25 * GIB  # what PyTorch and its libraries load and set aside once a run trains


class Need(NamedTuple):
    """What a part of a run needs.

    what: in words;  bytes: how much;  setting: the setting that makes it smaller.
    """

    what: str
    bytes: float
    setting: str


def needs_of_parts(benchmark: Benchmark, model: Model, slots: int, seeds: int) -> list[Need]:
    """What the network, the memory and the tasks need at least, before they are made.

    slots: of the buffer;  seeds: how many different streams the run has.
    """
    params = sum(layer.size for layer in model.layers)
    pixels = math.prod(benchmark.image_shape)
    return [
        Need("the network and its gradients", 4 * params * (COPIES + 2), "model"),
        Need("the examples in memory", slots * SLOT_BYTES, "buffer.capacity"),
        Need("the views of the tasks", seeds * benchmark.tasks * pixels * 8, "benchmark.tasks"),
    ]


def needs_of_run(
    parts: Parts, replicas: Sequence[Replica], plan: Plan, engine: str, device: torch.device
) -> list[Need]:
    """What the replicas that train together need beyond the dataset, which is loaded.

    engine: its name, which says how many of the replicas take a step at the same time.
    """
    count = len(replicas)
    at_once = {"vmap": count, "streams": min(count, DEFAULT_THREADS)}.get(engine, 1)
    learner = shape_of_learner(parts, replicas[0])
    longest = max(len(rows) for rows in replicas[0].stream.train_rows)
    per_pass = 16 * plan.passes * (sum(map(len, replicas[0].stream.train_rows)) + count * longest)
    memory = COPIES * count * tensor_bytes(learner.memory) + READ_BYTES * len(learner.memory.rows)
    view = tensor_bytes(replicas[0].stream.view)
    state = tensor_bytes([learner.method_state, learner.optimizer_state])
    network = tensor_bytes([learner.params, learner.statistics])
    gradients = at_once * step_gradient_bytes(parts)
    batch = min(plan.batch_size, longest)
    steps = min(chunk_size(plan, parts.model, device), -(-longest // batch))
    on_host = parts.benchmark.images_on_host  # which looks one stretch of steps ahead
    random_numbers = 4 * count * steps * step_numbers(parts, batch) * (1 + on_host)
    images, tests = image_needs(parts, replicas[0], batch)
    images *= at_once
    window = on_host * image_bytes(parts, count, plan, device)
    return [
        Need("the network and its gradients", COPIES * count * network + gradients, "model"),
        Need("the state of method and optimizer", COPIES * count * state, "model"),
        Need("the examples in memory", memory, "buffer.capacity"),
        Need("the images of references", count * cache_bytes(parts), "buffer.capacity"),
        Need("the random numbers of a stretch of steps", random_numbers, "buffer.capacity"),
        Need("the views of the tasks", 2 * count * view, "benchmark.first_tasks"),
        Need("the images on the device", window, "image_budget"),
        Need("the order of the examples", per_pass, "passes"),
        Need("the images of a step", images, "batch_size` or `memory_batch"),
        Need("the images of a test", max(0, tests - images), "model"),
    ]


def step_numbers(parts: Parts, batch: int) -> int:
    """How many random numbers a replica draws for a step on `batch` examples."""
    sizes = draw_sizes(parts, parts.benchmark.tasks - 1)
    keys = 0 if sizes.noise_keys is None else 2 * (sizes.noise_keys + batch)
    augmented = sizes.augment_uniform * (sizes.examples_read + batch)
    return sum(
        (
            sizes.reference_uniform,
            math.prod(sizes.replay_uniform),
            sizes.align_uniform,
            sizes.measure_uniform,
            batch * sizes.insert_uniform,
            keys,
            augmented,
        )
    )


def image_needs(parts: Parts, replica: Replica, batch: int) -> tuple[float, float]:
    """What the largest pass of a step and a test take: the images, and what the network makes of
    them. A step keeps every layer's output, a test the widest three of them."""
    last = parts.benchmark.tasks - 1
    reference, replay = reference_and_replay_sizes(parts, last)
    references = reference * parts.method.reference_count(last)
    objective = batch + replay * parts.method.memory_batches
    pixels = 4 * math.prod(parts.benchmark.image_shape)
    outputs = layer_outputs(parts)
    step = max(objective, references) * (pixels + sum(outputs))
    tested = min(TEST_BATCH, max(map(len, replica.stream.test_rows)))
    return step, tested * (2 * pixels + sum(sorted(outputs)[-3:]))


class OutputBytes(TorchDispatchMode):
    """Collects the bytes of every tensor that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operation(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        tensors = [each for each in results if isinstance(each, Tensor) and not operation.is_view]
        self.bytes += [tensor.numel() * tensor.element_size() for tensor in tensors]
        return result


def layer_outputs(parts: Parts) -> list[float]:
    """The bytes of an example in each tensor that the network makes on its way to the logits, by a
    pass whose tensors have shapes and no memory; or real ones, where the user's own network looks
    at numbers."""
    try:
        return outputs_on_device(parts, torch.device("meta"))
    except RuntimeError:
        return outputs_on_device(parts, torch.device("cpu"))


def outputs_on_device(parts: Parts, device: torch.device) -> list[float]:
    """`layer_outputs` by a pass of two examples on a device."""
    examples, sizes = 2, OutputBytes()
    params = torch.zeros(sum(layer.size for layer in parts.model.layers), device=device)
    statistics = torch.zeros_like(parts.model.initial_statistics, device=device)
    images = torch.zeros(examples, *parts.benchmark.image_shape, device=device)
    with torch.no_grad(), sizes:
        parts.model.apply(params, statistics, images, False, ())
    return [size / examples for size in sizes.bytes]


def total_bytes(needs: Sequence[Need]) -> float:
    """What a run needs in all."""
    return FIRST_USE + sum(need.bytes for need in needs)


def check_needs(needs: Sequence[Need], free: float) -> None:
    """Raise UserError where more is needed than is free."""
    total = total_bytes(needs)
    if total > free:
        largest = max(needs, key=lambda need: need.bytes)
        raise UserError(
            f"`{largest.setting}` must be smaller: the run needs {gib(total)} of memory, "
            f"{gib(largest.bytes)} of it for {largest.what}, found {gib(free)} free"
        )


def needs_text(needs: Sequence[Need]) -> str:
    """What a run needs as text, where that is worth saying."""
    total = total_bytes(needs)
    return f", needs about {gib(total)} of memory" if total > WORTH_SAYING else ""


def gib(count: float) -> str:
    """A number of bytes in GiB."""
    return f"{count / GIB:,.1f} GiB"
