"""Small runs on which parts are tried: six classes of 4 x 4 images, three tasks, a few steps."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from gradalign_cli.benchmarks.benchmark import Benchmark, TaskViews, benchmark_on_device
from gradalign_cli.benchmarks.split import split
from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.buffers.ring import ring
from gradalign_cli.data import Dataset
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.methods.finetune import finetune
from gradalign_cli.methods.method import Method
from gradalign_cli.models.mlp import mlp
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import CPU, default_device
from gradalign_cli.numerics.trees import tree_index, tree_stack
from gradalign_cli.optimizers.sgd import sgd
from gradalign_cli.step.draw_sizes import draw_sizes
from gradalign_cli.step.draws import Draw, draw_chunks, pass_orders
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.step.step import make_step
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import Replica, new_learner
from gradalign_cli.training.replica_groups import train_replica_group
from gradalign_cli.training.task_end import end_task

SLOTS, BATCH, MEMORY_BATCH, SAMPLES, LR = 18, 5, 6, 18, 0.02


BuildBenchmark = Callable[[], Benchmark]
BuildBuffer = Callable[[int, int], Buffer]  # (tasks, classes per task) -> a new one
BuildModel = Callable[[tuple[int, int, int], int], Model]  # (image shape, outputs) -> a new one


class PartFactories(NamedTuple):
    """What small parts are made of."""

    benchmark: BuildBenchmark
    buffer: BuildBuffer
    model: BuildModel
    method: Callable[[], Method]


class StepTaken(NamedTuple):
    """One step of a task: what went into it, and the learner after it."""

    before: Learner
    draw: Draw
    view: TaskViews
    after: Learner


def small_dataset() -> Dataset:
    """Six classes of 4 x 4 images that a linear map can tell apart, 20 + 5 of each."""
    source = np.random.default_rng(0)
    centre = source.uniform(40, 215, (6, 1, 4, 4))
    y = np.arange(150) % 6
    x = np.clip(centre[y] + source.normal(0, 25, (150, 1, 4, 4)), 0, 255).astype(np.uint8)
    return Dataset("tiny", x, y.astype(np.int64), 120, 6, None)


SMALL = PartFactories(
    benchmark=lambda: split(small_dataset(), 2, "task", samples_per_task=SAMPLES),
    buffer=lambda tasks, classes_per_task: ring(SLOTS, "total", tasks, classes_per_task),
    model=lambda shape, outputs: mlp([8], "torch", True, shape, outputs),
    method=finetune,
)


def make_parts(part_factories: PartFactories, device: torch.device = CPU) -> Parts:
    """The parts of a small run on a device."""
    benchmark = part_factories.benchmark()
    with default_device(device):
        buffer = part_factories.buffer(benchmark.tasks, benchmark.classes_per_task)
    model = part_factories.model(benchmark.image_shape, benchmark.outputs)
    benchmark = benchmark_on_device(benchmark, device)
    return Parts(benchmark, model, part_factories.method(), buffer, sgd(0.0, 0.0), MEMORY_BATCH)


def make_replicas(
    parts: Parts, seeds: Sequence[int], methods: Sequence[Method] = ()
) -> list[Replica]:
    """A replica for each seed, with the method of the parts or one of `methods` for each."""
    return [
        Replica(seed, LR, method, parts.benchmark.make_stream(seed))
        for seed, method in zip(seeds, methods or [parts.method] * len(seeds), strict=True)
    ]


def train(parts: Parts, replicas: Sequence[Replica], engine: Engine | None = None) -> Learner:
    """The learners [R, ...] after all tasks."""
    return train_replica_group(
        parts, replicas, engine or eager(), TrainingPlan(1, BATCH, 3, 0), ()
    ).learners


def steps_of_task(parts: Parts, replica: Replica, learner: Learner, task: int) -> list[StepTaken]:
    """The steps of one task, by plain autograd."""
    step = make_step(parts, task, eager().make_gradient_function, True)
    view, taken = replica.stream.view, []
    for draw in draws_of_task(parts, replica, task):
        after, _ = step(learner, draw, view)
        taken.append(StepTaken(learner, draw, view, after))
        learner = after
    return taken


def draws_of_task(parts: Parts, replica: Replica, task: int) -> Iterator[Draw]:
    """The draws of the steps of a task."""
    orders = [
        pass_orders(replica.stream, replica.seed, task, 1, parts.method.shuffles_tasks_together)
    ]
    sizes = draw_sizes(parts, task)
    seeds, lrs = [replica.seed], [replica.lr]
    for draws in draw_chunks(orders, seeds, lrs, task, BATCH, sizes, 0, 1000):
        for s in range(len(draws.rows)):
            yield tree_index(tree_index(draws, s), 0)


def learner_after_task(parts: Parts, replica: Replica, learner: Learner, task: int) -> Learner:
    """The learner after the steps and the end of one more task."""
    after = steps_of_task(parts, replica, learner, task)[-1].after
    return tree_index(end_task(parts, [replica], tree_stack([after]), task), 0)


def learner_after_tasks(parts: Parts, replica: Replica, task_count: int) -> Learner:
    """A learner that has trained on the first tasks."""
    learner = new_learner(parts, replica)
    for task in range(task_count):
        learner = learner_after_task(parts, replica, learner, task)
    return learner
