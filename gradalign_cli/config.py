"""From a composed config to the parts of a run; every value is checked before training starts."""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.benchmarks.benchmark import Benchmark
from gradalign_cli.benchmarks.examples import hold_out
from gradalign_cli.buffers.buffer import Buffer
from gradalign_cli.data import data_folder, load, present
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.engines.streams import streams
from gradalign_cli.engines.vmap import vmap
from gradalign_cli.errors import UserError, require
from gradalign_cli.learner import Parts
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.method import Method, task_ids
from gradalign_cli.metrics import CONVENTIONS
from gradalign_cli.reading import look_size, reading_sizes
from gradalign_cli.replica import Replica, default, put
from gradalign_cli.runner import Plan, reference_passes
from gradalign_cli.schedules.schedule import Schedule

ENGINES = {"eager": eager, "graph": graph, "vmap": vmap, "streams": streams}
FEW_EXAMPLES, LONG_RUN, LONG_TASK = 64, 5000, 2000  # examples a step; steps of all replicas; steps
CORES = torch.get_num_threads()  # before any run of this process changed it
SMALL_STEP = 5e7  # floating-point operations
UNTOLD = {"at ends": "where tasks end", "of each": "the task of each example"}
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def build(group: str, chosen: DictConfig, **given: Any) -> Any:
    """Call the function a config names (`_target_`) with the config's other entries.

    Raises UserError where an entry is missing, unknown, or not of the type the function declares.
    """
    if "_target_" not in chosen:
        raise UserError(f"`{group}._target_` must name a function, found none")
    try:
        function = get_method(chosen["_target_"])
    except Exception as error:  # Hydra raises what the import of the user's own module raised
        raise UserError(f"`{group}._target_` cannot be imported: {error}") from error
    entries = OmegaConf.to_container(chosen, resolve=True)
    assert isinstance(entries, dict)
    arguments = {str(name): value for name, value in entries.items()} | given
    for label in ("_target_", "name", "defaults"):  # the last is Hydra's, in a yaml read as it lies
        arguments.pop(label, None)
    declared = declared_types(function)
    for name in arguments.keys() - declared.keys():
        raise UserError(f"`{group}.{name}` is not known; known are {', '.join(declared)}")
    for name, value in arguments.items():
        if name not in given:
            check_type(f"{group}.{name}", declared[name], value)
    needed = inspect.signature(function).parameters.values()
    for parameter in needed:
        if parameter.default is parameter.empty and parameter.name not in arguments:
            raise UserError(f"`{group}.{parameter.name}` must be given, found nothing")
    return function(**arguments)


def declared_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotated parameters of a function."""
    return {name: kind for name, kind in get_type_hints(function).items() if name != "return"}


def check_type(field: str, declared: Any, value: Any) -> None:
    """Raise UserError unless a plain value is of its declared type."""
    optional = get_origin(declared) is UnionType
    kinds = get_args(declared) if optional else (declared,)
    plain = [kind for kind in kinds if kind in KINDS]
    if not plain or (value is None and type(None) in kinds):
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    fits = type(value) in plain or (float in plain and number)
    domain = KINDS[plain[0]] + (" or null" if type(None) in kinds else "")
    require(fits and not (isinstance(value, float) and math.isnan(value)), field, domain, value)


def hyperparameters(config: DictConfig) -> list[dict[str, float]]:
    """The replicas of a run: every combination of the values listed under `replicas`."""
    numbers = OmegaConf.to_container(config.replicas, resolve=True)
    assert isinstance(numbers, dict)
    allowed = ["seed", "lr", *numbers_of(config.method)]
    allowed += numbers_of(config.objective) if "objective" in config else []
    choices: dict[str, list[Any]] = {}
    for name, values in ((str(key), value) for key, value in numbers.items()):
        field = f"replicas.{name}"
        if name not in allowed:
            raise UserError(f"`{field}` cannot vary between replicas; {', '.join(allowed)} can")
        choices[name] = values if isinstance(values, list) else [values]
        require(bool(choices[name]), field, "a number or a list of them", values)
        for value in choices[name]:
            check_type(field, int if name == "seed" else float, value)
            if name == "seed":
                require(value >= 0, field, "non-negative", value)
            if name == "lr":
                require(value > 0, field, "positive", value)
    for needed in ("seed", "lr"):
        require(needed in choices, f"replicas.{needed}", "given", None)
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def numbers_of(chosen: DictConfig) -> list[str]:
    """The hyper-parameters of a method that may vary between replicas: its floats."""
    declared = declared_types(get_method(chosen["_target_"]))
    return [name for name, kind in declared.items() if kind is float]


def build_method(config: DictConfig, numbers: dict[str, float]) -> Method:
    """The method, with the loss of another where `objective` names one."""
    made = []
    for group in ("method", "objective"):
        if group in config:
            own = {name: numbers[name] for name in numbers_of(config[group]) if name in numbers}
            chosen = OmegaConf.merge(config[group], own)
            assert isinstance(chosen, DictConfig)
            made.append(build(group, chosen))
    return combine(*made) if len(made) == 2 else made[0]


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
    numbers = hyperparameters(config)
    methods: list[Method] = []
    for own in numbers:
        extra = {name: float(value) for name, value in own.items() if name not in ("seed", "lr")}
        methods.append(build_method(config, extra))
    optimizer = build("optimizer", config.optimizer)
    benchmark = build("benchmark", config.benchmark, **datasets(config))
    if "stream" in config:
        benchmark = build("stream", config.stream, benchmark=benchmark)
    model = build("model", config.model, shape=benchmark.shape, outputs=benchmark.outputs)
    with default(device):
        buffer = build("buffer", config.buffer, tasks=benchmark.tasks, classes=benchmark.classes)
    refuse_what_is_not_told(config, benchmark, methods[0], buffer)
    memory_batch = None if config.memory_batch is None else positive(config, "memory_batch")
    schedule: Schedule | None = None
    if "schedule" in config:
        schedule = build("schedule", config.schedule)
        looks = config.metrics.continual_every
        require(looks == 0, "metrics.continual_every", "0 where a schedule ends tasks", looks)
        if methods[0].mixed or benchmark.boundaries != "sharp":
            raise UserError(
                "`schedule` needs tasks one after the other, which this `method` or `stream` mixes"
            )
    streams = {seed: benchmark.stream(seed) for seed in {int(own["seed"]) for own in numbers}}
    if schedule:
        streams = {seed: hold_out(own, schedule.held_out, seed) for seed, own in streams.items()}
    replicas = [
        Replica(int(own["seed"]), float(own["lr"]), method, streams[int(own["seed"])])
        for own, method in zip(numbers, methods, strict=True)
    ]
    there = {
        name: put(getattr(benchmark, name), device)
        for name in ("x", "y", "offset", "scale", "standard")
    }
    benchmark = benchmark._replace(**there)
    made = Parts(benchmark, model, methods[0], buffer, optimizer, memory_batch, schedule)
    return made, replicas, numbers


def choose_engine(
    name: str, made: Parts, replicas: list[Replica], plan: Plan, device: torch.device
) -> tuple[Engine, str]:
    """The engine of a run, and the reason for it."""
    known = ("auto", *ENGINES)
    require(name in known, "engine", f"one of {', '.join(known)}", name)
    if name != "auto":
        return ENGINES[name](device), "asked for"
    pays = pays_on_gpu if device.type == "cuda" else pays_on_cpu
    replicas = replicas[:1] if made.schedule else replicas  # they train one after the other
    chosen, reason = pays(made, replicas, plan)
    return ENGINES[chosen](device), reason


def pays_on_gpu(made: Parts, replicas: list[Replica], plan: Plan) -> tuple[str, str]:
    """The engine that leaves a GPU idle least, by measurements of prototypes."""
    if len(replicas) == 1:
        return "graph", "one replica on a GPU"
    if made.model.convolutional:
        return "streams", "batching would make grouped convolutions of them"
    return "vmap", f"{len(replicas)} replicas of an MLP on a GPU"


def pays_on_cpu(made: Parts, replicas: list[Replica], plan: Plan) -> tuple[str, str]:
    """The faster engine on a CPU, as scripts/bench_step.py measures it.

    A thread that takes a whole replica divides the work better than threads that meet in every
    operation. Where operations are too small for that, batching replicas saves dispatch, if a step
    sees few examples, and costs a second of start-up; gradients of each earlier task are batched
    already. A recording costs some tenths of a second a task.
    """
    steps = steps_a_task(replicas[0], plan)
    alone = "graph" if steps >= LONG_TASK and not made.model.convolutional else "eager"
    if len(replicas) == 1:
        return alone, f"one replica, {steps} steps a task"
    large = made.model.convolutional or not small(made, plan)
    if torch.get_num_threads() > 1 and large:
        return "streams", f"{len(replicas)} replicas, a thread for each at a time"
    if made.model.convolutional:
        return "eager", "batching would make grouped convolutions of them"
    examples = examples_a_step(made, plan)
    whole = steps * made.benchmark.tasks
    enough = 5 if examples <= FEW_EXAMPLES else 10
    if made.method.references == "per_task":
        return alone, "the gradients of all tasks are batched already"
    if len(replicas) < enough or whole * len(replicas) < LONG_RUN:
        return alone, f"{len(replicas)} replicas of {whole} steps on a CPU"
    return "vmap", f"{len(replicas)} replicas of an MLP, {examples} examples a step"


def steps_a_task(replica: Replica, plan: Plan) -> int:
    """Steps in the longest task."""
    return max(-(-len(rows) // plan.batch) for rows in replica.stream.train) * plan.passes


def examples_a_step(made: Parts, plan: Plan) -> int:
    """How many examples the last task's steps go through."""
    past = made.benchmark.tasks - 1
    reference, replay = reading_sizes(made, past)
    passes = reference_passes(made.method, past)
    looks = plan.batch + look_size(made, past) if made.buffer.looks else 0
    return plan.batch + passes * reference + made.method.replays * replay + looks


def threads(asked: int | None, made: Parts, plan: Plan) -> int:
    """The number of CPU threads for a run: as asked, else one where dividing a step costs more than
    it gains."""
    if asked is not None:
        require(isinstance(asked, int) and asked > 0, "threads", "positive or null", asked)
        return asked
    return 1 if small(made, plan) and not made.model.convolutional else CORES


def small(made: Parts, plan: Plan) -> bool:
    """Whether a step has so little to calculate that dividing an operation costs more than it
    gains."""
    size = sum(layer.size for layer in made.model.layers)
    return 6 * size * examples_a_step(made, plan) < SMALL_STEP


def device(name: str) -> torch.device:
    """The device a run is to use; `auto` takes a GPU where there is one."""
    require(name in ("auto", "cpu", "cuda"), "device", "auto, cpu or cuda", name)
    there = torch.cuda.is_available()
    require(there or name != "cuda", "device", "auto or cpu where PyTorch finds no GPU", name)
    return torch.device("cuda" if there and name != "cpu" else "cpu")
