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
from gradalign_cli.numerics.generators import generator
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import reference_and_replay_sizes
from gradalign_cli.training.evaluation import evaluation_batch_size
from gradalign_cli.training.memory_estimate import (
    COPIES,
    cached_reference_image_bytes,
    shape_of_learner,
    step_gradient_bytes,
    tensor_bytes,
)
from gradalign_cli.training.plan import TrainingPlan, chunk_size
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.step_images import peak_device_image_bytes

GIB = 2**30
READ_BYTES = 64  # of a slot, in tables of slots and while a step chooses what it reads
SLOT_BYTES = COPIES * 24 + READ_BYTES  # row, task and class are 24
WORTH_SAYING = 1 * GIB
FIRST_USE = 0.25 * GIB  # what PyTorch and its libraries load and set aside once a run trains


class MemoryNeed(NamedTuple):
    """What a part of a run needs.

    description: in words;  bytes: how much;  setting_to_lower: what makes it smaller.
    """

    description: str
    bytes: float
    setting_to_lower: str


def needs_of_parts(
    benchmark: Benchmark, model: Model, buffer_slots: int, stream_count: int
) -> list[MemoryNeed]:
    """What the network, the memory and the tasks need at least, before they are made.

    stream_count: how many different streams the run has.
    """
    params = sum(layer.size for layer in model.layers)
    pixels = math.prod(benchmark.image_shape)
    return [
        MemoryNeed("the network and its gradients", 4 * params * (COPIES + 2), "model"),
        MemoryNeed("the examples in memory", buffer_slots * SLOT_BYTES, "buffer.capacity"),
        MemoryNeed(
            "the views of the tasks", stream_count * benchmark.tasks * pixels * 8, "benchmark.tasks"
        ),
    ]


def needs_of_run(
    parts: Parts,
    replicas: Sequence[Replica],
    plan: TrainingPlan,
    engine_name: str,
    device: torch.device,
) -> list[MemoryNeed]:
    """What the replicas that train together need beyond the dataset, which is loaded.

    engine_name: says how many of the replicas take a step at the same time.
    """
    count = len(replicas)
    at_once = {"vmap": count, "streams": min(count, DEFAULT_THREADS)}.get(engine_name, 1)
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
    random_numbers = 4 * count * steps * random_numbers_per_step(parts, batch) * (1 + on_host)
    activations = activation_bytes(parts, replicas[0], batch, device)
    step_images = at_once * activations.step
    test_images = max(0, activations.test - step_images)
    window = on_host * peak_device_image_bytes(parts, count, plan, device)
    return [
        MemoryNeed("the network and its gradients", COPIES * count * network + gradients, "model"),
        MemoryNeed("the state of method and optimizer", COPIES * count * state, "model"),
        MemoryNeed("the examples in memory", memory, "buffer.capacity"),
        MemoryNeed(
            "the images of references",
            count * cached_reference_image_bytes(parts),
            "buffer.capacity",
        ),
        MemoryNeed("the random numbers of a stretch of steps", random_numbers, "buffer.capacity"),
        MemoryNeed("the views of the tasks", 2 * count * view, "benchmark.first_tasks"),
        MemoryNeed("the images on the device", window, "image_budget"),
        MemoryNeed("the order of the examples", per_pass, "passes"),
        MemoryNeed("the images of a step", step_images, "batch_size` or `memory_batch"),
        MemoryNeed("the images of a test", test_images, "model"),
    ]


def random_numbers_per_step(parts: Parts, batch_size: int) -> int:
    """How many random numbers a replica draws for a step on `batch_size` examples."""
    sizes = draw_sizes(parts, parts.benchmark.tasks - 1)
    keys = (
        0
        if sizes.memory_noise_key_count is None
        else 2 * (sizes.memory_noise_key_count + batch_size)
    )
    augmented = sizes.uniforms_per_image * (sizes.memory_examples + batch_size)
    return sum(
        (
            sizes.reference_uniforms,
            math.prod(sizes.replay_uniform_shape),
            sizes.align_uniforms,
            sizes.buffer_measure_uniforms,
            batch_size * sizes.uniforms_per_arrival,
            keys,
            augmented,
        )
    )


class ActivationBytes(NamedTuple):
    """Bytes of the images of a step and of a test, and of what the network makes of them."""

    step: float
    test: float


def activation_bytes(
    parts: Parts, replica: Replica, batch_size: int, device: torch.device
) -> ActivationBytes:
    """What the largest pass of a step and a test take: the images, and what the network makes of
    them. A step keeps every layer's output, a test the widest three of them."""
    last = parts.benchmark.tasks - 1
    reference, replay = reference_and_replay_sizes(parts, last)
    references = reference * parts.method.reference_count(last)
    objective = batch_size + replay * parts.method.memory_batches
    pixels = 4 * math.prod(parts.benchmark.image_shape)
    outputs = layer_output_bytes(parts)
    step = max(objective, references) * (pixels + sum(outputs))
    largest_test_set = max(map(len, replica.stream.test_rows))
    tested = min(evaluation_batch_size(parts.model, device), largest_test_set)
    return ActivationBytes(step, tested * (2 * pixels + sum(sorted(outputs)[-3:])))


class OutputBytes(TorchDispatchMode):
    """Collects the bytes of every tensor that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, as to skip PyTorch's compiler imports it."""
        return False

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operation(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        tensors = [each for each in results if isinstance(each, Tensor) and not operation.is_view]
        self.bytes += [tensor.numel() * tensor.element_size() for tensor in tensors]
        return result


def layer_output_bytes(parts: Parts) -> list[float]:
    """The bytes of an example in each tensor that the network makes on its way to the logits, by
    passes of two and of four examples on the CPU: what grows from one to the other. A pass on
    PyTorch's meta device, whose tensors have shapes and no numbers, would import PyTorch's
    compiler, which takes seconds."""
    params = parts.model.init(generator(0, "network"))
    statistics = parts.model.initial_statistics.cpu()

    def sizes(examples: int) -> list[int]:
        images, made = torch.zeros(examples, *parts.benchmark.image_shape), OutputBytes()
        with torch.no_grad(), made:
            parts.model.apply(params, statistics, images, False, ())
        return made.bytes

    return [max(0, four - two) / 2 for two, four in zip(sizes(2), sizes(4), strict=False)]


def total_bytes(needs: Sequence[MemoryNeed]) -> float:
    """What a run needs in all."""
    return FIRST_USE + sum(need.bytes for need in needs)


def check_needs(needs: Sequence[MemoryNeed], free_bytes: float) -> None:
    """Raise UserError where more is needed than is free."""
    total = total_bytes(needs)
    if total > free_bytes:
        largest = max(needs, key=lambda need: need.bytes)
        raise UserError(
            f"`{largest.setting_to_lower}` must be smaller: the run needs {gibibytes_text(total)} "
            f"of memory, {gibibytes_text(largest.bytes)} of it for {largest.description}, found "
            f"{gibibytes_text(free_bytes)} free"
        )


def total_need_text_if_large(needs: Sequence[MemoryNeed]) -> str:
    """What a run needs as text, where that is worth saying."""
    total = total_bytes(needs)
    return f", needs about {gibibytes_text(total)} of memory" if total > WORTH_SAYING else ""


def gibibytes_text(byte_count: float) -> str:
    """A number of bytes in GiB."""
    return f"{byte_count / GIB:,.1f} GiB"
