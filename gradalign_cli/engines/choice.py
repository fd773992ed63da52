"""Which engine a run takes, and how many CPU threads, by what was measured."""

from typing import NamedTuple

import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import require
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import measured_size, reading_sizes

ENGINES = {"eager": eager, "graph": graph, "vmap": vmap, "streams": streams}
FEW_EXAMPLES = 64  # in a step
LONG_RUN = 5000  # steps of all replicas
LONG_TASK = 2000  # steps
SMALL_STEP = 5e7  # floating-point operations
CORES = torch.get_num_threads()  # before any run of this process changed it


class Work(NamedTuple):
    """What there is to do: the parts of the run, how many replicas train together, steps of the
    longest task, and examples in a batch."""

    parts: Parts
    replicas: int
    steps_per_task: int
    batch_size: int


def choose_engine(name: str, work: Work, device: torch.device) -> tuple[Engine, str]:
    """The engine of that name, or for `auto` the one that is faster; and the reason for it."""
    names = ("auto", *ENGINES)
    require(name in names, "engine", f"one of {', '.join(names)}", name)
    if name != "auto":
        return ENGINES[name](device), "asked for"
    chosen, reason = faster_on_gpu(work) if device.type == "cuda" else faster_on_cpu(work)
    return ENGINES[chosen](device), reason


def faster_on_gpu(work: Work) -> tuple[str, str]:
    """The engine that leaves a GPU idle least, by measurements of prototypes; and the reason."""
    if work.replicas == 1:
        return "graph", "one replica on a GPU"
    if work.parts.model.convolutional:
        return "streams", "batching would make grouped convolutions of them"
    return "vmap", f"{work.replicas} replicas of an MLP on a GPU"


def faster_on_cpu(work: Work) -> tuple[str, str]:
    """The faster engine on a CPU, as scripts/bench_step.py measures it; and the reason.

    A thread that takes a whole replica divides the work better than threads that meet in every
    operation. Where operations are too small for that, batching replicas saves dispatch, if a step
    has few examples; it costs a second of start-up. Gradients of each earlier task are batched
    already. A recording costs some tenths of a second a task.
    """
    parts, replicas, steps = work.parts, work.replicas, work.steps_per_task
    convolutional = parts.model.convolutional
    alone = "graph" if steps >= LONG_TASK and not convolutional else "eager"
    if replicas == 1:
        return alone, f"one replica, {steps} steps a task"
    if torch.get_num_threads() > 1 and (convolutional or not is_small_step(work)):
        return "streams", f"{replicas} replicas, a thread for each at a time"
    if convolutional:
        return "eager", "batching would make grouped convolutions of them"
    examples = examples_per_step(work)
    all_steps = steps * parts.benchmark.tasks
    enough = 5 if examples <= FEW_EXAMPLES else 10
    if parts.method.references == "per_task":
        return alone, "the gradients of all tasks are batched already"
    if replicas < enough or all_steps * replicas < LONG_RUN:
        return alone, f"{replicas} replicas of {all_steps} steps on a CPU"
    return "vmap", f"{replicas} replicas of an MLP, {examples} examples a step"


def examples_per_step(work: Work) -> int:
    """How many examples go through the network in a step of the last task."""
    parts = work.parts
    past = parts.benchmark.tasks - 1
    reference, replay = reading_sizes(parts, past)
    measured = work.batch_size + measured_size(parts, past) if parts.buffer.measured_examples else 0
    from_memory = (
        parts.method.reference_count(past) * reference + parts.method.memory_batches * replay
    )
    return work.batch_size + from_memory + measured


def choose_threads(asked: int | None, work: Work) -> int:
    """The number of CPU threads for a run: as asked, else one where dividing a step costs more than
    it gains."""
    if asked is not None:
        require(isinstance(asked, int) and asked > 0, "threads", "positive or null", asked)
        return asked
    return 1 if is_small_step(work) and not work.parts.model.convolutional else CORES


def is_small_step(work: Work) -> bool:
    """Whether a step calculates so little that dividing an operation costs more than it gains."""
    params = sum(layer.size for layer in work.parts.model.layers)
    return 6 * params * examples_per_step(work) < SMALL_STEP
