"""`gradalign train`: build a run from its config, train, write its folder, show its table."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from gradalign_cli.benchmarks.benchmark import task_classes
from gradalign_cli.commands.train_help import asks_for_help, print_help
from gradalign_cli.composition.datasets import config_without_missing_datasets
from gradalign_cli.composition.hydra_jobs import exit_failed_job, job_folder, run_jobs
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.settings import choose_device, read_plan
from gradalign_cli.engines.choice import DEFAULT_THREADS, Workload, choose_engine, choose_threads
from gradalign_cli.engines.engine import with_test_threads
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.results.display import Display, run_tables
from gradalign_cli.results.machine import machine_record
from gradalign_cli.results.run_folder import RunFolder, json_text, write_atomically
from gradalign_cli.results.run_metrics import replicas_by_setting, run_metrics
from gradalign_cli.step.draws import fingerprint
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.rounds import rounds, train_in_rounds
from gradalign_cli.training.runaway import Runaway, RunawayWatcher


def main(arguments: list[str]) -> int:
    """Hand the arguments to Hydra, whose jobs are runs; returns the exit code."""
    if asks_for_help(arguments):
        print_help(arguments, Console(highlight=False, markup=False))
        return 0
    return run_jobs(job, arguments)


def job(config: DictConfig) -> None:
    """One run in the folder that Hydra made for it."""
    keep_freed_memory()
    try:
        train(config, job_folder(), Console())
    except UserError as error:
        exit_failed_job(error)


def train(config: DictConfig, folder: Path, console: Console) -> dict[str, Any]:
    """Carry out the run that a config describes; returns what `metrics.json` holds."""
    begin = time.perf_counter()
    config = config_without_missing_datasets(config)
    device, plan = choose_device(config), read_plan(config)
    parts, replicas, replica_settings = build_run(config, device)
    work = describe_workload(parts, replicas, plan)
    torch.set_num_threads(choose_threads(config.threads, work))
    engine, reason = choose_engine(config.engine, work, device)
    engine = with_test_threads(engine, config.threads or DEFAULT_THREADS)
    at_once = replicas_at_once(parts, replicas[0], config.memory_budget, device)
    warn_of_broken_constraints(parts)
    warn_of_step_sizes(replicas)
    run_folder = RunFolder(folder)
    save_config(config, folder)
    record = {
        "config": OmegaConf.to_container(config, resolve=True),
        "replicas": replica_settings,
        "classes": [task_classes(parts.benchmark, replica.stream) for replica in replicas],
        "engine": engine.name,
        "engine_reason": reason,
        "fingerprint": streams_fingerprint(parts, replicas, plan),
    }
    title = f"{run_title(config)}, {len(replicas)} replica(s), engine {engine.name} ({reason})"
    console.print(title)
    todo = rounds(replicas, at_once)
    display = Display(console, parts.benchmark.tasks, planned_steps(replicas[0], plan) * len(todo))
    runaway_watcher = RunawayWatcher(
        parts.benchmark.outputs, lambda runaway: warn_of_runaway(runaway, config, replica_settings)
    )
    setup = time.perf_counter() - begin
    try:
        with display:
            watchers = run_folder, display, runaway_watcher
            outcome = train_in_rounds(parts, replicas, engine, plan, watchers, todo)
    except UserError as error:
        record |= {"failed": str(error), "runaways": runaway_watcher.record()}
        write_atomically(folder / "record.json", json_text(record))
        raise
    results = run_metrics(outcome, replica_settings, config.metrics.convention)
    record |= machine_record(device) | run_costs(outcome, setup) | run_folder.constraint_counts()
    record["runaways"] = runaway_watcher.record()
    reported = parts.method.report(outcome.learners.method_state)
    record = {name: value.tolist() for name, value in reported.items()} | record
    run_folder.finish(outcome, results, record)
    order = [r for _, members in replicas_by_setting(replica_settings) for r in members]
    for table in run_tables(results["settings"], outcome.accuracy[order]):
        console.print(table)
    console.print(f"{cost_sentence(record)}; written to {folder}", soft_wrap=True)
    return results


def describe_workload(parts: Parts, replicas: list[Replica], plan: Plan) -> Workload:
    """What an engine is chosen for."""
    longest = max(-(-len(rows) // plan.batch_size) for rows in replicas[0].stream.train_rows)
    together = 1 if parts.schedule else len(replicas)  # which ends tasks at times of their own
    steps = planned_steps(replicas[0], plan)
    return Workload(parts, together, longest * plan.passes, steps, plan.batch_size)


def planned_steps(replica: Replica, plan: Plan) -> int:
    """How many steps a replica takes, if no pass is left out."""
    return sum(-(-len(rows) // plan.batch_size) for rows in replica.stream.train_rows) * plan.passes


def warn_of_broken_constraints(parts: Parts) -> None:
    """Warn where the optimizer does not follow the direction that the method gives."""
    if not parts.optimizer.is_plain_sgd:
        warnings.warn(
            "momentum and weight decay act after the alignment and can break the constraint it "
            "kept; record.json says how often (`broken_constraints`)",
            stacklevel=1,
        )


def warn_of_step_sizes(replicas: list[Replica]) -> None:
    """Warn where a method says that a replica's `lr` is wrong, once for all such replicas."""
    sentences = [replica.method.step_size_warning(replica.lr) for replica in replicas]
    warned = [number for number, sentence in enumerate(sentences) if sentence]
    if warned:
        numbers = ", ".join(map(str, warned))
        warnings.warn(f"{sentences[warned[0]]} (replica {numbers})", stacklevel=1)


def warn_of_runaway(
    runaway: Runaway, config: DictConfig, replica_settings: Sequence[dict[str, float]]
) -> None:
    """Warn of a replica whose parameters run away;  replica_settings: of each
    replica, by name."""
    seed, lr = (replica_settings[runaway.replica][name] for name in ("seed", "lr"))
    strengths = [
        f"`{group}.strength`"
        for group in ("method", "objective")
        if "strength" in config.get(group, {})
    ]
    warnings.warn(
        f"the parameters run away with method {config.method.name}: replica {runaway.replica} "
        f"(seed {seed}, lr {lr:g}) has a loss of {runaway.loss:.3g} in task {runaway.task}, step "
        f"{runaway.step}: try a smaller {' or '.join(['`replicas.lr`', *strengths])}",
        stacklevel=1,
    )


def streams_fingerprint(parts: Parts, replicas: list[Replica], plan: Plan) -> str:
    """A hash of the streams of all replicas."""
    streams, seeds = [r.stream for r in replicas], [r.seed for r in replicas]
    return fingerprint(streams, seeds, plan.passes, parts.method.shuffles_tasks)


def run_title(config: DictConfig) -> str:
    """The run in a few words."""
    objective = f" with {config.objective.name}'s objective" if "objective" in config else ""
    return f"{config.name}: {config.method.name}{objective}"


def run_costs(outcome: Outcome, setup_seconds: float) -> dict[str, Any]:
    """What a run took, for record.json."""
    return {
        "setup_seconds": setup_seconds,
        "training_seconds": outcome.training_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "steps": outcome.steps,
        "steps_per_second": outcome.steps / outcome.training_seconds,
        "backward_passes": outcome.backward_passes,
    }


def cost_sentence(record: dict[str, Any]) -> str:
    """The cost of a run in words."""
    return (
        f"{record['training_seconds']:.1f} s training at {record['steps_per_second']:.0f} steps/s,"
        f" {record['evaluation_seconds']:.1f} s testing"
    )


def save_config(config: DictConfig, folder: Path) -> None:
    """Write `config.yaml`, which repeats the run through --config-path and --config-name."""
    saved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(saved, DictConfig)
    with open_dict(saved):
        saved.hydra = {
            "run": {"dir": f"outputs/{config.name}/${{now:%Y-%m-%d_%H-%M-%S}}_${{unique:}}"}
        }
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(saved))
