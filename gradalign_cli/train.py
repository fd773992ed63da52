"""One run: build it from its config, train, write its folder, show its table."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from torch import Tensor

from gradalign_cli import config as configuration
from gradalign_cli.display import Display, matrix_table, metrics_table
from gradalign_cli.draws import fingerprint
from gradalign_cli.engines.engine import Engine, testing_with
from gradalign_cli.errors import UserError
from gradalign_cli.learner import Parts, Trace
from gradalign_cli.methods.combine import Both
from gradalign_cli.methods.gem import GEMState
from gradalign_cli.metrics import continual_metrics, metrics, summary
from gradalign_cli.record import Record, machine, write_atomically
from gradalign_cli.replica import Replica
from gradalign_cli.rounds import join, replicas_at_once, rounds
from gradalign_cli.runner import Outcome, Plan, run


class Listeners:
    """Tells the record and the display what happens."""

    def __init__(self, record: Record, display: Display) -> None:
        self.listeners = (record, display)
        self.begin, self.end, self.say = record.begin, record.end, display.say

    def steps(self, task: int, first: int, trace: Trace, measured: Tensor) -> None:
        for listener in self.listeners:
            listener.steps(task, first, trace, measured)

    def tested(self, row: int, accuracy: Tensor) -> None:
        for listener in self.listeners:
            listener.tested(row, accuracy)


def train(config: DictConfig, folder: Path, console: Console) -> dict[str, Any]:
    """Carry out the run a config describes; returns what `metrics.json` holds."""
    begin = time.perf_counter()
    config = configuration.with_present_datasets(config)
    device = configuration.device(config.device)
    plan = configuration.plan(config)
    parts, replicas, numbers = configuration.parts(config, device)
    torch.set_num_threads(configuration.threads(config.threads, parts, plan))
    engine, reason = configuration.choose_engine(config.engine, parts, replicas, plan, device)
    engine = testing_with(engine, config.threads or configuration.CORES)
    at_once = replicas_at_once(parts, replicas[0], config.memory_budget, device)
    if not parts.optimizer.plain:
        warnings.warn(
            "momentum and weight decay act after the alignment and can break the constraint it "
            "kept; record.json says how often (`broken_constraints`)",
            stacklevel=1,
        )
    streams, seeds = [r.stream for r in replicas], [r.seed for r in replicas]
    record = Record(folder)
    save_config(config, folder)
    description: dict[str, Any] = {
        "config": OmegaConf.to_container(config, resolve=True),
        "replicas": numbers,
        "engine": engine.name,
        "engine_reason": reason,
        "fingerprint": fingerprint(streams, seeds, plan.passes, parts.method.mixed),
    }
    names = f"{config.name}: {config.method.name}"
    names += f" with {config.objective.name}'s objective" if "objective" in config else ""
    console.print(f"{names}, {len(replicas)} replica(s), engine {engine.name} ({reason})")
    todo = rounds(replicas, at_once)
    steps = sum(-(-len(rows) // plan.batch) for rows in streams[0].train) * plan.passes
    display = Display(console, parts.benchmark.tasks, steps * len(todo))
    setup = time.perf_counter() - begin
    try:
        with display:
            outcome = train_rounds(parts, replicas, engine, plan, Listeners(record, display), todo)
    except UserError as error:
        description["failed"] = str(error)
        write_atomically(folder / "record.json", json.dumps(description, indent=1) + "\n")
        raise
    results = judge(config, outcome, numbers)
    description |= machine(device) | {
        "setup_seconds": setup,
        "training_seconds": outcome.training_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "steps": outcome.steps,
        "steps_per_second": outcome.steps / outcome.training_seconds,
        "backward_passes": outcome.backward_passes,
        "measured_steps": record.measured,
        "broken_constraints": record.broken,
    }
    state = outcome.learners.method
    state = state.alignment if isinstance(state, Both) else state
    if isinstance(state, GEMState):
        description["unsolved"] = state.unsolved.tolist()
    if outcome.continual is not None:
        record.between(outcome.continual, outcome.moments)
    record.finish(outcome.accuracy, outcome.own, results, description)
    console.print(matrix_table("accuracy on task 1, 2, ... in percent", outcome.accuracy))
    console.print(metrics_table(results["summary"]))
    console.print(f"{describe(description)}; written to {folder}", soft_wrap=True)
    return results


def train_rounds(
    parts: Parts,
    replicas: list[Replica],
    engine: Engine,
    plan: Plan,
    listeners: Listeners,
    todo: list[list[int]],
) -> Outcome:
    """Train the replicas round by round, in smaller rounds where memory runs out."""
    outcomes, order = [], []
    while todo:
        numbers = todo.pop(0)
        listeners.begin(numbers)
        try:
            outcomes.append(run(parts, [replicas[n] for n in numbers], engine, plan, listeners))
        except torch.OutOfMemoryError as error:
            if len(numbers) == 1:
                raise UserError(
                    "the device has too little memory for one replica: make `memory_batch`, "
                    "`buffer.capacity` or the model smaller"
                ) from error
            half = -(-len(numbers) // 2)
            listeners.say(
                f"out of memory with {len(numbers)} replicas, going on with {half} at once"
            )
            todo = [
                part[k : k + half] for part in [numbers, *todo] for k in range(0, len(part), half)
            ]
            continue
        listeners.end()
        order += numbers
    return join(outcomes, order)


def judge(config: DictConfig, outcome: Outcome, numbers: list[dict[str, float]]) -> dict[str, Any]:
    """The metrics of each replica and their summary."""
    found = []
    for r, R in enumerate(outcome.accuracy):
        learning = None if outcome.learning is None else outcome.learning[r]
        found.append(metrics(R, learning, config.metrics.convention))
        if outcome.own is not None:
            own = metrics(outcome.own[r], None, config.metrics.convention)
            found[-1] |= {f"{name}_task": value for name, value in own.items()}
        if outcome.continual is not None:
            found[-1] |= continual_metrics(outcome.continual[r], outcome.moments[:, 0])
    return {
        "convention": config.metrics.convention,
        "replicas": [own | each for own, each in zip(numbers, found, strict=True)],
        "summary": summary(found),
    }


def describe(record: dict[str, Any]) -> str:
    """The cost of a run in words."""
    return (
        f"{record['training_seconds']:.1f} s training at {record['steps_per_second']:.0f} steps/s,"
        f" {record['evaluation_seconds']:.1f} s testing"
    )


def save_config(config: DictConfig, folder: Path) -> None:
    """Write `config.yaml`, which repeats the run through --config-path and --config-name."""
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(kept, DictConfig)
    with open_dict(kept):
        kept.hydra = {
            "run": {"dir": f"outputs/{config.name}/${{now:%Y-%m-%d_%H-%M-%S}}_${{unique:}}"}
        }
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(kept))
