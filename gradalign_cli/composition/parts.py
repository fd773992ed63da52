"""From a composed config to the parts of a run; every value is checked before training starts."""

from typing import NamedTuple

import torch
from omegaconf import DictConfig

from gradalign_cli.augmentations.augmentation import Augmentation
from gradalign_cli.benchmarks.benchmark import Benchmark, Stream, benchmark_on_device
from gradalign_cli.benchmarks.options import with_held_out_rows
from gradalign_cli.benchmarks.quick import quick_benchmark
from gradalign_cli.buffers.buffer import Buffer, total_capacity
from gradalign_cli.composition.alignment import read_aligned_vector
from gradalign_cli.composition.construct import call_target, checked_arguments
from gradalign_cli.composition.datasets import load_datasets_as_arguments
from gradalign_cli.composition.named_modules import module_builder_argument
from gradalign_cli.composition.paper_settings import check_names_in_paper_entry
from gradalign_cli.composition.replicas import build_method, read_replica_settings
from gradalign_cli.composition.schema import plain_values
from gradalign_cli.composition.settings import image_budget_bytes, is_quick
from gradalign_cli.errors import UserError, require
from gradalign_cli.methods.method import Method, needed_task_ids
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import default_device
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.schedules.schedule import Schedule, looks_at_losses
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.memory_needs import check_needs, needs_of_parts
from gradalign_cli.training.replica import Replica

NEEDED = {
    "at ends": "where tasks end",
    "of each": "the task of each example",
}  # of `needed_task_ids`


class BuiltRun(NamedTuple):
    """The parts of a run, its replicas, and the numbers of each replica: seed, lr, and what else
    varies between them."""

    parts: Parts
    replicas: list[Replica]
    replica_settings: list[dict[str, float]]


def build_run(config: DictConfig, device: torch.device) -> BuiltRun:
    """What a config describes, on a device.

    Raises UserError where a value is out of its domain or parts do not fit together.
    """
    check_names_in_paper_entry(plain_values(config))
    replica_settings = read_replica_settings(config)
    methods = [build_method(config, replica) for replica in replica_settings]
    optimizer: Optimizer = call_target("optimizer", config.optimizer)
    benchmark = build_benchmark(config)
    model = build_model(config, benchmark.image_shape, benchmark.outputs)
    check_parts_fit_memory(config, benchmark, model, replica_settings, device)
    with default_device(device):
        buffer: Buffer = call_target(
            "buffer",
            config.buffer,
            tasks=benchmark.tasks,
            classes_per_task=benchmark.classes_per_task,
        )
    check_boundaries(config, benchmark, methods[0], buffer)
    check_optimizer_boundaries(benchmark, optimizer)
    schedule = build_schedule(config, benchmark, methods[0])
    replicas = build_replicas(benchmark, schedule, methods, replica_settings)
    augmentation = build_augmentation(config, benchmark)
    benchmark = benchmark_on_device(benchmark, device, image_budget_bytes(config, device))
    parts = Parts(
        benchmark,
        model,
        methods[0],
        buffer,
        optimizer,
        config.memory_batch,
        schedule,
        augmentation,
        read_aligned_vector(config, methods),
    )
    return BuiltRun(parts, replicas, replica_settings)


def check_part_settings(config: DictConfig) -> None:
    """Raise UserError where a part has a setting that is unknown or not of its type, or one of the
    method is out of its domain. Neither the dataset is read nor the network made."""
    dataset = "datasets" if "datasets" in config.benchmark else "dataset"
    computed_names = {
        "benchmark": [dataset],
        "model": ["shape", "outputs", *module_builder_argument(config.model)],
        "buffer": ["tasks", "classes_per_task"],
        "optimizer": [],
        "stream": ["benchmark"],
        "augment": ["shape"],
        "schedule": [],
    }
    for group, names in computed_names.items():
        if config.get(group) is not None:
            checked_arguments(group, config[group], dict.fromkeys(names))
    for replica in read_replica_settings(config):
        build_method(config, replica)


def build_model(config: DictConfig, image_shape: tuple[int, int, int], outputs: int) -> Model:
    """The network for images of a shape (channels, height, width) and so many logits."""
    arguments = module_builder_argument(config.model)
    model: Model = call_target(
        "model", config.model, shape=image_shape, outputs=outputs, **arguments
    )
    return model


def check_parts_fit_memory(
    config: DictConfig,
    benchmark: Benchmark,
    model: Model,
    replica_settings: list[dict[str, float]],
    device: torch.device,
) -> None:
    """Raise UserError where the network, the memory or the tasks cannot fit, before they are
    made."""
    settings, slots = config.buffer, 0
    if "capacity" in settings and "capacity_per" in settings:  # a user's own may have neither
        sizes = benchmark.tasks, benchmark.classes_per_task
        slots = total_capacity(settings.capacity, settings.capacity_per, *sizes)
    seeds = len({replica["seed"] for replica in replica_settings})
    check_needs(needs_of_parts(benchmark, model, slots, seeds), free_bytes(device))


def build_benchmark(config: DictConfig) -> Benchmark:
    """The benchmark, in the stream that the config chooses, and small where the run is quick."""
    benchmark: Benchmark = call_target(
        "benchmark", config.benchmark, **load_datasets_as_arguments(config)
    )
    if is_quick(config):
        benchmark = quick_benchmark(benchmark)
    if config.get("stream") is not None:
        benchmark = call_target("stream", config.stream, benchmark=benchmark)
    return benchmark


def build_augmentation(config: DictConfig, benchmark: Benchmark) -> Augmentation | None:
    """How images are changed in training, or None where they are not."""
    if config.get("augment") is None:
        return None
    shape = benchmark.image_shape
    augmentation: Augmentation = call_target("augment", config.augment, shape=shape)
    return augmentation


def build_schedule(config: DictConfig, benchmark: Benchmark, method: Method) -> Schedule | None:
    """The schedule, or None; UserError where it may end tasks and they cannot be ended early."""
    if config.get("schedule") is None:
        return None
    schedule: Schedule = call_target("schedule", config.schedule)
    if not looks_at_losses(schedule):
        return schedule
    every = config.metrics.continual_every
    require(every == 0, "metrics.continual_every", "0 where a schedule ends tasks", every)
    if method.shuffles_tasks_together or benchmark.boundaries != "sharp":
        raise UserError(
            "`schedule` needs tasks one after the other, which this `method` or `stream` mixes"
        )
    return schedule


def build_replicas(
    benchmark: Benchmark,
    schedule: Schedule | None,
    methods: list[Method],
    replica_settings: list[dict[str, float]],
) -> list[Replica]:
    """A replica for each method and its numbers; replicas of one seed share their stream."""
    seeds = {int(replica["seed"]) for replica in replica_settings}
    streams = {seed: benchmark.make_stream(seed) for seed in seeds}
    for stream in streams.values():
        check_tasks_have_examples(stream)
    if schedule and looks_at_losses(schedule):
        share = schedule.held_out_share
        streams = {
            seed: with_held_out_rows(stream, share, seed) for seed, stream in streams.items()
        }
    return [
        Replica(
            int(settings["seed"]), float(settings["lr"]), method, streams[int(settings["seed"])]
        )
        for settings, method in zip(replica_settings, methods, strict=True)
    ]


def check_tasks_have_examples(stream: Stream) -> None:
    """Raise UserError where a task has nothing to train on or nothing to be tested on."""
    for task, (train, test) in enumerate(zip(stream.train_rows, stream.test_rows, strict=True)):
        for rows, purpose in ((train, "train"), (test, "test")):
            if not len(rows):
                raise UserError(
                    f"`benchmark` must have examples for every task, found none to {purpose} task "
                    f"{task + 1} on"
                )


def check_optimizer_boundaries(benchmark: Benchmark, optimizer: Optimizer) -> None:
    """Raise UserError where the optimizer waits for ends of tasks that the stream does not tell."""
    told = benchmark.boundaries != "none" or optimizer.at_task_end == "keep"
    domain = "keep where the `stream` does not tell where tasks end"
    require(told, "optimizer.at_task_end", domain, optimizer.at_task_end)


def check_boundaries(
    config: DictConfig, benchmark: Benchmark, method: Method, buffer: Buffer
) -> None:
    """Raise UserError where a part must be told of tasks and the stream has no boundaries."""
    if benchmark.boundaries != "none":
        return
    field = "`method` or `objective`" if config.get("objective") is not None else "`method`"
    needs = (
        (field, needed_task_ids(method), "er"),
        ("`buffer`", buffer.needed_task_ids, "reservoir"),
    )
    for group, needed, example in needs:
        if needed != "no":
            raise UserError(
                f"{group} must be told {NEEDED[needed]}, and this `stream` does not tell: choose "
                f"one that needs no task ids, such as {example}"
            )
    require(config.passes == 1, "passes", "1 for a `stream` without boundaries", config.passes)
