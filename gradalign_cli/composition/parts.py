"""From a composed config to the parts of a run; every value is checked before training starts."""

import warnings
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.benchmarks.benchmark import Benchmark
from gradalign_cli.benchmarks.options import hold_out
from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.replicas import build_method, replica_numbers
from gradalign_cli.data import data_folder, load, present
from gradalign_cli.errors import UserError, require
from gradalign_cli.methods.method import Method, task_ids
from gradalign_cli.models.model import Model
from gradalign_cli.numerics.devices import default_device, to_device
from gradalign_cli.optimizers.optimizer import Optimizer
from gradalign_cli.results.metrics import CONVENTIONS
from gradalign_cli.schedules.schedule import Schedule
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica

UNTOLD = {"at ends": "where tasks end", "of each": "the task of each example"}


def positive(config: DictConfig, field: str, least: int = 1) -> int:
    """A whole number of the config that is at least `least`."""
    value = OmegaConf.select(config, field)
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= least, field, f"a whole number of at least {least}", value)
    return int(value)


def plan(config: DictConfig) -> Plan:
    """How long to train and what to look at."""
    return Plan(
        positive(config, "passes"),
        positive(config, "batch_size"),
        positive(config, "alignment.every"),
        positive(config, "metrics.lca_batches", least=0),
        positive(config, "metrics.continual_every", least=0),
        positive(config, "metrics.continual_samples"),
    )


def with_present_datasets(config: DictConfig) -> DictConfig:
    """The config with those of the benchmark's `datasets` that are on this machine, so that what a
    run records is what it was; a warning names the others."""
    if "datasets" not in config.benchmark:
        return config
    named, folder = config.benchmark.datasets, data_folder(config.data_dir)
    require(OmegaConf.is_list(named), "benchmark.datasets", "a list of names", named)
    found = present(named, config.data_dir)
    advice = f"in {folder}; `gradalign data status` says how to get them"
    if len(found) < 2:
        raise UserError(
            f"`benchmark.datasets` needs two of {', '.join(named)} or more, found "
            f"{' and '.join(found) or 'none'} {advice}"
        )
    missing = [name for name in named if name not in found]
    if missing:
        warnings.warn(
            f"going on with {len(found)} tasks: {', '.join(missing)} not found {advice}",
            stacklevel=1,
        )
    kept = OmegaConf.merge(config, {"benchmark": {"datasets": found}})
    assert isinstance(kept, DictConfig)
    return kept


def datasets(config: DictConfig) -> dict[str, Any]:
    """The benchmark's `dataset`, or all of its `datasets`, by that name."""
    if "datasets" in config.benchmark:
        return {"datasets": [load(name, config.data_dir) for name in config.benchmark.datasets]}
    return {"dataset": load(config.benchmark.dataset, config.data_dir)}


def refuse_what_is_not_told(
    config: DictConfig, benchmark: Benchmark, method: Method, buffer: Buffer
) -> None:
    """Raise UserError where a part needs boundaries and the stream has none."""
    if benchmark.boundaries != "none":
        return
    chosen = "`method` or `objective`" if "objective" in config else "`method`"
    needs = ((chosen, task_ids(method), "er"), ("`buffer`", buffer.task_ids, "reservoir"))
    for field, needed, other in needs:
        if needed != "no":
            raise UserError(
                f"{field} must be told {UNTOLD[needed]}, and this `stream` does not tell: choose "
                f"one that needs no task ids, such as {other}"
            )
    require(config.passes == 1, "passes", "1 for a `stream` without boundaries", config.passes)


def parts(
    config: DictConfig, device: torch.device
) -> tuple[Parts, list[Replica], list[dict[str, float]]]:
    """Everything a run is made of, its replicas, and what tells them apart."""
    require(
        config.metrics.convention in CONVENTIONS,
        "metrics.convention",
        f"one of {', '.join(CONVENTIONS)}",
        config.metrics.convention,
    )
    numbers = replica_numbers(config)
    methods: list[Method] = []
    for own in numbers:
        extra = {name: float(value) for name, value in own.items() if name not in ("seed", "lr")}
        methods.append(build_method(config, extra))
    optimizer: Optimizer = call_target("optimizer", config.optimizer)
    benchmark: Benchmark = call_target("benchmark", config.benchmark, **datasets(config))
    if "stream" in config:
        benchmark = call_target("stream", config.stream, benchmark=benchmark)
    model: Model = call_target(
        "model", config.model, shape=benchmark.image_shape, outputs=benchmark.outputs
    )
    with default_device(device):
        buffer: Buffer = call_target(
            "buffer", config.buffer, tasks=benchmark.tasks, classes=benchmark.classes_per_task
        )
    refuse_what_is_not_told(config, benchmark, methods[0], buffer)
    memory_batch = None if config.memory_batch is None else positive(config, "memory_batch")
    schedule: Schedule | None = None
    if "schedule" in config:
        schedule = call_target("schedule", config.schedule)
        looks = config.metrics.continual_every
        require(looks == 0, "metrics.continual_every", "0 where a schedule ends tasks", looks)
        if methods[0].shuffles_tasks or benchmark.boundaries != "sharp":
            raise UserError(
                "`schedule` needs tasks one after the other, which this `method` or `stream` mixes"
            )
    streams = {seed: benchmark.make_stream(seed) for seed in {int(own["seed"]) for own in numbers}}
    if schedule:
        streams = {
            seed: hold_out(own, schedule.held_out_share, seed) for seed, own in streams.items()
        }
    replicas = [
        Replica(int(own["seed"]), float(own["lr"]), method, streams[int(own["seed"])])
        for own, method in zip(numbers, methods, strict=True)
    ]
    there = {
        name: to_device(getattr(benchmark, name), device)
        for name in ("images", "labels", "pixel_offset", "pixel_scale", "task_mean_std")
    }
    benchmark = benchmark._replace(**there)
    made = Parts(benchmark, model, methods[0], buffer, optimizer, memory_batch, schedule)
    return made, replicas, numbers


def device(name: str) -> torch.device:
    """The device a run is to use; `auto` takes a GPU where there is one."""
    require(name in ("auto", "cpu", "cuda"), "device", "auto, cpu or cuda", name)
    there = torch.cuda.is_available()
    require(there or name != "cuda", "device", "auto or cpu where PyTorch finds no GPU", name)
    return torch.device("cuda" if there and name != "cpu" else "cpu")
