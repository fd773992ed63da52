"""The choice of a run's engine and number of CPU threads, by rules that follow from measurements
(docs/performance.md)."""

from typing import NamedTuple

import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError, require
from gradalign_cli.models.model import Model, StepExecution
from gradalign_cli.step.learner import Parts
from gradalign_cli.step.reading_sizes import examples_of_step

ENGINES = {"eager": eager, "graph": graph, "vmap": vmap, "streams": streams}
EXECUTIONS_OF_ENGINE: dict[str, tuple[StepExecution, ...]] = {  # what an engine does to steps
    "eager": (),
    "graph": ("recorded",),
    "vmap": ("batched", "recorded"),
    "streams": ("recorded",),
}
FEW_EXAMPLES = 64  # in a step
LONG_RUN = 5000  # steps of all replicas
LONG_TASK = 2000  # steps
SMALL_STEP = 5e7  # floating-point operations
DEFAULT_THREADS = torch.get_num_threads()  # before any run of this process changed it


class Workload(NamedTuple):
    """What an engine has to do.

    parts:              of the run.
    replicas:           the number of replicas that train together.
    longest_task_steps: the number of steps of the longest task.
    steps_per_replica:  the number of steps of a replica on all tasks.
    batch_size:         the number of examples of a batch.
    """

    parts: Parts
    replicas: int
    longest_task_steps: int
    steps_per_replica: int
    batch_size: int


def choose_engine(name: str, workload: Workload, device: torch.device) -> tuple[Engine, str]:
    """The engine of this name, or for `auto` the faster one; and the reason for the choice."""
    names = ("auto", *ENGINES)
    require(name in names, "engine", f"one of {', '.join(names)}", name)
    if name != "auto":
        obstacle = obstacle_of(name, workload.parts.model)
        if obstacle:
            raise UserError(f"`engine` must be eager or auto for this `model`, as {obstacle}")
        return ENGINES[name](device), "asked for"
    choose_faster = faster_gpu_engine if device.type == "cuda" else faster_cpu_engine
    engine_name, reason = choose_faster(workload)
    obstacle = obstacle_of(engine_name, workload.parts.model)
    if obstacle:
        engine_name, reason = "eager", obstacle
    return ENGINES[engine_name](device), reason


def obstacle_of(engine: str, model: Model) -> str:
    """Why an engine cannot take this network through its steps; empty where it can."""
    return next(filter(None, map(model.obstacle, EXECUTIONS_OF_ENGINE[engine])), "")


def faster_gpu_engine(workload: Workload) -> tuple[str, str]:
    """The name of the engine that leaves a GPU idle least, by measurements of prototypes; and the
    reason."""
    if workload.replicas == 1:
        return "graph", "one replica on a GPU"
    if workload.parts.model.convolutional:
        return "streams", "batching would make grouped convolutions of them"
    return "vmap", f"{workload.replicas} replicas of an MLP on a GPU"


def faster_cpu_engine(workload: Workload) -> tuple[str, str]:
    """The name of the faster engine on a CPU, as measured by scripts/bench_step.py; and the reason.

    A thread for each replica divides the work better than several threads for every operation.
    Where operations are too small for threads, batching replicas saves dispatch if a step has few
    examples, or a buffer that decides on its arrivals one by one, but costs a second of start-up.
    Gradients of each earlier task are already batched within a replica. A recording costs some
    tenths of a second a task.
    """
    parts, replicas, steps = workload.parts, workload.replicas, workload.longest_task_steps
    convolutional = parts.model.convolutional
    sequential = "graph" if steps >= LONG_TASK and not convolutional else "eager"
    if replicas == 1:
        return sequential, f"one replica, at most {steps} steps a task"
    if torch.get_num_threads() > 1 and (convolutional or not is_small_step(workload)):
        return "streams", f"{replicas} replicas, a thread for each at a time"
    if convolutional:
        return "eager", "batching would make grouped convolutions of them"
    examples = examples_per_replica_step(workload)
    few = examples <= FEW_EXAMPLES or parts.buffer.measures != "nothing"
    min_replicas = 5 if few else 10
    if parts.method.references == "per_task":
        return sequential, "the gradients of all tasks are batched already"
    if replicas < min_replicas or workload.steps_per_replica * replicas < LONG_RUN:
        return sequential, f"{replicas} replicas of {workload.steps_per_replica} steps on a CPU"
    return "vmap", f"{replicas} replicas of an MLP, {examples} examples a step"


def examples_per_replica_step(workload: Workload) -> int:
    """The number of examples that go through the network in a step of the last task: the batch,
    those read from the memory and those that the buffer measures."""
    return examples_of_step(workload.parts, workload.parts.benchmark.tasks - 1, workload.batch_size)


def choose_threads(threads: int | None, workload: Workload) -> int:
    """The number of CPU threads for a run: `threads`, or for None, one where dividing a small step
    costs more than it gains and as many as PyTorch has elsewhere."""
    if threads is not None:
        require(isinstance(threads, int) and threads > 0, "threads", "positive or null", threads)
        return threads
    return (
        1 if is_small_step(workload) and not workload.parts.model.convolutional else DEFAULT_THREADS
    )


def is_small_step(workload: Workload) -> bool:
    """Whether a step computes so little that dividing an operation costs more than it gains: 6
    floating-point operations for each parameter and example are below SMALL_STEP."""
    params = sum(layer.size for layer in workload.parts.model.layers)
    return 6 * params * examples_per_replica_step(workload) < SMALL_STEP
