"""`gradalign train`: build a run from its config, train, write its folder, show its table."""

import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from gradalign_cli.benchmarks.benchmark import task_classes
from gradalign_cli.commands.exit import failure_text, report
from gradalign_cli.commands.finished_job import earlier_results
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
from gradalign_cli.errors import UserError, require_name
from gradalign_cli.loggers.choice import CSV, logger_names, make_loggers
from gradalign_cli.loggers.watcher import LoggingWatcher
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.reports import run_page
from gradalign_cli.reports.settings import flat_settings
from gradalign_cli.results.display import Display, run_tables
from gradalign_cli.results.durations import duration_text
from gradalign_cli.results.forecast import Forecast, work_of
from gradalign_cli.results.machine import machine_record, reset_peak_memory
from gradalign_cli.results.network_file import network_file
from gradalign_cli.results.run_folder import RunFolder, json_text, refuse_finished_run
from gradalign_cli.results.run_identity import check_identity, run_identity
from gradalign_cli.results.run_metrics import replicas_by_setting, run_metrics
from gradalign_cli.results.stop_notes import run_note, sweep_note
from gradalign_cli.results.sweep_folder import write_failure
from gradalign_cli.results.terminal import terminal_console
from gradalign_cli.schedules.schedule import looks_at_losses
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
    if not outcomes:
        return 0
    console = terminal_console()
    console.print(f"{len(outcomes)} jobs in {outcomes[0].folder.parent}", soft_wrap=True)
    console.print(sweep_table(outcomes))
    return int(any(map(is_failed, outcomes)))


def job(config: DictConfig) -> float:
    """One run in the folder that Hydra made for it; returns the mean of its `objective_metric`.

    A job of a sweep whose run is there already takes its results, if they may be taken. A failed
    job says why, here and in its folder, and returns NaN, and the others go on.
    """
    keep_freed_memory()
    folder, console = job_folder(), terminal_console()
    number, begin = sweep_job_text(), time.perf_counter()
    if number:
        console.print(f"{number}: {job_overrides_text()}", soft_wrap=True)
    try:
        with hydra_errors_as_sentences():
            settings = plain_settings(config)
        allow_plugins(settings.get("plugins", []), plugin_folders())
        results = earlier_results(config, folder, console) if number else None
        was_finished = results is not None
        if results is None:
            results = train(config, folder, console, hydra_files(config))
        value = mean_metric(results, config.get("objective_metric", "ACC"))
    except KeyboardInterrupt as stop:
        stop.add_note(sweep_note(sweep) if (sweep := sweep_folder()) else run_note(folder))
        raise
    except Exception as error:
        exit_code = report(error, folder)
        if number is None:
            sys.exit(exit_code)  # Hydra would print a line of its own before the error
        console.print(f"{number}: failed")
        with suppress(UserError):  # where nothing can be written, the line on stderr must do
            write_failure(folder, failure_text(error, folder))
        return math.nan
    if number and not was_finished:
        console.print(f"{number}: finished in {duration_text(time.perf_counter() - begin)}")
    return value


def mean_metric(results: dict[str, Any], name: str) -> float:
    """The mean of a metric over all replicas;  results: the content of metrics.json.

    Raises UserError where the run has no such metric.
    """
    replicas = results["replicas"]
    require_name(name, replicas[0], "objective_metric", f"one of {', '.join(replicas[0])}")
    return float(np.mean([replica[name] for replica in replicas]))


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
    reset_peak_memory(device)
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
    logging = logging_watcher(config, folder, replica_settings)
    setup = time.perf_counter() - begin
    try:
        with display, closing(logging):
            watchers = run_folder, display, runaway_warner, logging
            outcome = train_in_rounds(
                parts, replicas, engine, plan, watchers, todo, checkpoints, saved
            )
            metrics = run_metrics(outcome, replica_settings, config.metrics.convention)
            logging.finish(metrics["replicas"], outcome.accuracy)
    except UserError as error:
        record |= {"failed": str(error), "runaways": runaway_warner.record()}
        run_folder.write("record.json", json_text(record))
        run_folder.release()
        raise UserError(f"{error}; {folder} is an unfinished run") from error
    quick = {"quick": True} if is_quick(config) else {}
    results = quick | metrics
    record |= (
        quick | machine_record(device) | run_costs(outcome, setup) | run_folder.constraint_counts()
    )
    record["runaways"] = runaway_warner.record()
    reported = parts.method.report(outcome.learners.method_state)
    record = {name: value.tolist() for name, value in reported.items()} | record
    run_folder.finish(outcome, results, record, saved_network(config, parts, replicas, outcome))
    order = [r for _, members in replicas_by_setting(replica_settings) for r in members]
    for table in run_tables(results["settings"], outcome.accuracy[order], is_quick(config)):
        console.print(table)
    if config.get("report", True):
        write_page(folder, run_title(config))
    console.print(f"{cost_sentence(record)}; written to {folder}", soft_wrap=True)
    return results


def saved_network(
    config: DictConfig, parts: Parts, replicas: list[Replica], outcome: Outcome
) -> bytes | None:
    """The content of network.safetensors, None where the run keeps no networks."""
    if config.get("save", "network") == "none":  # which earlier versions' configs do not say
        return None
    return network_file(parts, replicas, outcome.learners)


def logging_watcher(
    config: DictConfig, folder: Path, replica_settings: list[dict[str, float]]
) -> LoggingWatcher:
    """What tells the loggers that a config asks for."""
    names = logger_names(config.get("logger", CSV))
    settings = flat_settings(plain_settings(config))
    parameters = [settings | numbers for numbers in replica_settings]
    return LoggingWatcher(make_loggers(names, folder, config.name), parameters)


def write_page(folder: Path, title: str) -> None:
    """Write `report.html`; a run without it is finished all the same."""
    try:
        run_page.write_run_page(folder, title)
    except UserError as error:
        warnings.warn(f"report.html is not written: {error}", stacklevel=1)


def describe_workload(parts: Parts, replicas: list[Replica], plan: Plan) -> Workload:
    """What an engine is chosen for."""
    longest = max(-(-len(rows) // plan.batch_size) for rows in replicas[0].stream.train_rows)
    # tasks may end at times of their own
    together = 1 if looks_at_losses(parts.schedule) else len(replicas)
    steps = planned_steps(replicas[0], plan)
    return Workload(parts, together, longest * plan.passes, steps, plan.batch_size)


def planned_steps(replica: Replica, plan: Plan) -> int:
    """How many steps a replica takes, if no pass is left out."""
    return sum(-(-len(rows) // plan.batch_size) for rows in replica.stream.train_rows) * plan.passes


def warn_of_broken_constraints(parts: Parts) -> None:
    """Warn where the optimizer does not follow the direction that the method gives."""
    if not parts.optimizer.is_plain_sgd and parts.aligned == "gradient":
        can_align = parts.method.aligns_updates
        advice = "; alignment.of=update aligns what the optimizer makes of the gradient"
        warnings.warn(
            "momentum, weight decay and Adam act after the alignment and can break the constraint "
            f"it kept; record.json says how often (`broken_constraints`){advice * can_align}",
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
