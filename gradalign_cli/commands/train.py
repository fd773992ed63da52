"""`gradalign train`: build a run from its config, train, write its folder, show its table."""

import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from gradalign_cli.benchmarks.benchmark import task_classes
from gradalign_cli.commands.exit import report
from gradalign_cli.commands.sweep_table import is_failed, sweep_table
from gradalign_cli.commands.train_help import asks_for_help, print_help
from gradalign_cli.composition.datasets import config_without_missing_datasets
from gradalign_cli.composition.hydra_jobs import (
    hydra_errors_as_sentences,
    hydra_files,
    job_folder,
    job_overrides_text,
    plugin_folders,
    run_jobs,
    sweep_folder,
    sweep_job_text,
)
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.schema import check_settings, plain_settings
from gradalign_cli.composition.settings import choose_device, is_quick, read_plan
from gradalign_cli.composition.targets import allow_plugins
from gradalign_cli.engines.choice import DEFAULT_THREADS, Workload, choose_engine, choose_threads
from gradalign_cli.engines.engine import with_test_threads
from gradalign_cli.errors import UserError
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.results.display import Display, run_tables
from gradalign_cli.results.forecast import Forecast, duration_text, work_of
from gradalign_cli.results.machine import machine_record
from gradalign_cli.results.run_folder import RunFolder, json_text, refuse_finished_run
from gradalign_cli.results.run_identity import check_identity, run_identity
from gradalign_cli.results.run_metrics import replicas_by_setting, run_metrics
from gradalign_cli.results.stop_notes import run_note, sweep_note
from gradalign_cli.results.terminal import terminal_console
from gradalign_cli.step.draws import fingerprint
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.checkpoints import Checkpoints, newest_saved_run
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.memory_needs import check_needs, needs_of_run, needs_text
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.plan import Plan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.rounds import rounds, train_in_rounds
from gradalign_cli.training.runaway import Runaway, RunawayWarner

TRY_IN_SMALL = "; `quick=true` tries it in small"


def main(arguments: list[str]) -> int:
    """Hand the arguments to Hydra, whose jobs are runs; returns the exit code: 1 where jobs of a
    sweep failed."""
    if asks_for_help(arguments):
        print_help(arguments, terminal_console(highlight=False))
        return 0
    outcomes = run_jobs(job, arguments)
    if outcomes is None:
        return 0
    console = terminal_console()
    console.print(f"{len(outcomes)} jobs in {outcomes[0].folder.parent}", soft_wrap=True)
    console.print(sweep_table(outcomes))
    return int(any(map(is_failed, outcomes)))


def job(config: DictConfig) -> float:
    """One run in the folder that Hydra made for it; returns its mean ACC. A failed job of a sweep
    says why and returns NaN, and the others go on."""
    keep_freed_memory()
    folder, console = job_folder(), terminal_console()
    number, begin = sweep_job_text(), time.perf_counter()
    if number:
        console.print(f"{number}: {job_overrides_text()}", soft_wrap=True)
    try:
        with hydra_errors_as_sentences():
            settings = plain_settings(config)
        allow_plugins(settings.get("plugins", []), plugin_folders())
        results = train(config, folder, console, hydra_files(config))
    except KeyboardInterrupt as stop:
        stop.add_note(sweep_note(sweep) if (sweep := sweep_folder()) else run_note(folder))
        raise
    except Exception as error:
        exit_code = report(error, folder)
        if number is None:
            sys.exit(exit_code)  # Hydra would print a line of its own before the error
        console.print(f"{number}: failed")
        return math.nan
    if number:
        console.print(f"{number}: finished in {duration_text(time.perf_counter() - begin)}")
    return mean_accuracy(results)


def mean_accuracy(results: dict[str, Any]) -> float:
    """The mean ACC over all replicas;  results: the content of metrics.json."""
    return float(np.mean([replica["ACC"] for replica in results["replicas"]]))


def train(
    config: DictConfig, folder: Path, console: Console, files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Carry out the run that a config describes; returns what `metrics.json` holds.

    files: texts to write into the folder too, by name.
    """
    begin = time.perf_counter()
    check_settings(plain_settings(config))
    refuse_finished_run(folder, config.get("overwrite", False))
    config = config_without_missing_datasets(config)
    device, plan = choose_device(config), read_plan(config)
    parts, replicas, replica_settings = build_run(config, device)
    work = describe_workload(parts, replicas, plan)
    torch.set_num_threads(choose_threads(config.threads, work))
    engine, reason = choose_engine(config.engine, work, device)
    engine = with_test_threads(engine, config.threads or DEFAULT_THREADS)
    at_once = replicas_at_once(parts, replicas[0], config.memory_budget, device)
    needs = needs_of_run(parts, replicas[:at_once], plan, engine.name, device)
    check_needs(needs, free_bytes(device))
    stream_hash = streams_fingerprint(parts, replicas, plan)
    test_threads = config.threads or DEFAULT_THREADS
    places = {
        **{"engine": engine.name, "device": device.type},
        **{"threads": torch.get_num_threads(), "test_threads": test_threads},
    }
    identity = partial(run_identity, plain_settings(config), parts.benchmark, stream_hash, places)
    saved = newest_saved_run(folder) if config.get("resume", "never") == "auto" else None
    if saved:
        check_identity(folder, saved.identity, identity())
    else:
        warn_of_broken_constraints(parts)
        warn_of_step_sizes(replicas)
    texts = {"config.yaml": repeatable_config(config), **(files or {})}
    run_folder = RunFolder(folder, config.get("overwrite", False), texts, resumes=bool(saved))
    minutes = config.get("checkpoint", {"minutes": None})["minutes"]
    checkpoints = Checkpoints(folder, minutes, (lambda: saved.identity) if saved else identity)
    record = {
        "config": saved.identity["config"] if saved else plain_settings(config),
        "replicas": replica_settings,
        "classes": [task_classes(parts.benchmark, replica.stream) for replica in replicas],
        "engine": engine.name,
        "engine_reason": reason,
        "fingerprint": stream_hash,
    }
    title = f"{run_title(config)}, {len(replicas)} replica(s), engine {engine.name} ({reason})"
    title += needs_text(needs)
    console.print(title)
    if saved:
        console.print(f"goes on from {saved.path.name}")
    todo = rounds(replicas, at_once)
    forecast = Forecast(work_of(parts, replicas[0], plan), len(replicas))
    display = Display(console, forecast, "" if is_quick(config) else TRY_IN_SMALL)
    runaway_warner = RunawayWarner(
        parts.benchmark.outputs, lambda runaway: warn_of_runaway(runaway, config, replica_settings)
    )
    setup = time.perf_counter() - begin
    try:
        with display:
            watchers = run_folder, display, runaway_warner
            outcome = train_in_rounds(
                parts, replicas, engine, plan, watchers, todo, checkpoints, saved
            )
    except UserError as error:
        record |= {"failed": str(error), "runaways": runaway_warner.record()}
        run_folder.write("record.json", json_text(record))
        run_folder.release()
        raise UserError(f"{error}; {folder} is an unfinished run") from error
    quick = {"quick": True} if is_quick(config) else {}
    results = quick | run_metrics(outcome, replica_settings, config.metrics.convention)
    record |= (
        quick | machine_record(device) | run_costs(outcome, setup) | run_folder.constraint_counts()
    )
    record["runaways"] = runaway_warner.record()
    reported = parts.method.report(outcome.learners.method_state)
    record = {name: value.tolist() for name, value in reported.items()} | record
    run_folder.finish(outcome, results, record)
    order = [r for _, members in replicas_by_setting(replica_settings) for r in members]
    for table in run_tables(results["settings"], outcome.accuracy[order], is_quick(config)):
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
    return fingerprint(streams, seeds, plan.passes, parts.method.mixes_tasks)


def run_title(config: DictConfig) -> str:
    """The run in a few words."""
    objective = (
        f" with {config.objective.name}'s objective" if config.get("objective") is not None else ""
    )
    quick = ", a quick run" if is_quick(config) else ""
    return f"{config.name}: {config.method.name}{objective}{quick}"


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


def repeatable_config(config: DictConfig) -> str:
    """The text of `config.yaml`, which repeats the run through --config-path and --config-name."""
    saved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(saved, DictConfig)
    with open_dict(saved):
        saved.overwrite = False  # a repeated run replaces none, unless it is told to
        saved.resume = "never"
        saved.hydra = {
            "run": {"dir": f"outputs/{config.name}/${{now:%Y-%m-%d_%H-%M-%S}}_${{unique:}}"}
        }
    return OmegaConf.to_yaml(saved)
