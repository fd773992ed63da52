"""One run: from its config to the files of its folder."""

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from gradalign_cli.benchmarks.benchmark import Benchmark, data_fingerprint, task_classes
from gradalign_cli.commands.run_warnings import (
    warn_of_runaway,
    warn_of_step_sizes,
    warn_of_warm_up,
    warn_where_optimizer_can_break_constraints,
)
from gradalign_cli.composition.datasets import config_without_missing_datasets
from gradalign_cli.composition.parts import build_run
from gradalign_cli.composition.schema import check_settings, plain_values
from gradalign_cli.composition.settings import (
    choose_device,
    image_budget_bytes,
    is_quick,
    read_plan,
)
from gradalign_cli.engines.choice import DEFAULT_THREADS, Workload, choose_engine, choose_threads
from gradalign_cli.engines.engine import Engine, with_test_threads
from gradalign_cli.errors import UserError, counted
from gradalign_cli.loggers.choice import CSV, logger_names, make_loggers
from gradalign_cli.loggers.watcher import LoggingWatcher
from gradalign_cli.reports import run_page
from gradalign_cli.reports.settings import flat_settings
from gradalign_cli.results.display import Display, run_tables
from gradalign_cli.results.kept_bytes import kept_bytes, stored_examples
from gradalign_cli.results.machine import machine_record, reset_peak_memory
from gradalign_cli.results.network_file import network_file
from gradalign_cli.results.remaining_time import RemainingTime, work_of
from gradalign_cli.results.run_folder import RunFolder, json_text, refuse_finished_run
from gradalign_cli.results.run_identity import check_identity, run_identity
from gradalign_cli.results.run_metrics import MetricsJson, replicas_by_setting, run_metrics
from gradalign_cli.results.stop_notes import resume_note_of_run
from gradalign_cli.schedules.schedule import looks_at_losses
from gradalign_cli.step.draws import data_order_fingerprint
from gradalign_cli.step.learner import Parts
from gradalign_cli.training.checkpoints import Checkpoints, Identity, SavedRun, newest_saved_run
from gradalign_cli.training.free_memory import free_bytes
from gradalign_cli.training.memory_estimate import replicas_at_once
from gradalign_cli.training.memory_needs import check_needs, needs_of_run, total_need_text_if_large
from gradalign_cli.training.outcome import Outcome
from gradalign_cli.training.plan import TrainingPlan
from gradalign_cli.training.replica import Replica
from gradalign_cli.training.replica_groups import replica_groups, train_replica_groups
from gradalign_cli.training.runaway import RunawayWarner
from gradalign_cli.training.step_images import replicas_within_image_budget

TRY_IN_SMALL = "; `quick=true` tries it in small"


class PreparedRun(NamedTuple):
    """A run that can begin: everything is checked, and nothing is written.

    config: without datasets that are missing;  settings: the same as plain values;
    replica_settings: of each replica its seed, lr and what else varies;  replicas_at_once: how
    many train together;  memory_needs_text: what memory it needs, in words, empty where it is
    little.
    """

    config: DictConfig
    settings: dict[str, Any]
    device: torch.device
    plan: TrainingPlan
    parts: Parts
    replicas: list[Replica]
    replica_settings: list[dict[str, float]]
    engine: Engine
    engine_reason: str
    replicas_at_once: int
    run_data_order_fingerprint: str
    memory_needs_text: str

    def identity(self) -> Identity:
        """What must be the same where the run goes on later."""
        places = {
            "engine": self.engine.name,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "test_threads": self.config.threads or DEFAULT_THREADS,
        }
        return run_identity(
            self.settings, self.parts.benchmark, self.run_data_order_fingerprint, places
        )

    def title(self) -> str:
        """The run in a line."""
        replicas = counted(len(self.replicas), "replica")
        how = f"{replicas}, engine {self.engine.name} ({self.engine_reason})"
        on_host = self.parts.benchmark.images_on_host
        images = ", images of the dataset stay on the host" if on_host else ""
        return f"{run_title(self.config)}, {how}{self.memory_needs_text}{images}"

    def record(self, saved: SavedRun | None) -> dict[str, Any]:
        """What record.json says of the run before it begins."""
        benchmark = self.parts.benchmark
        return {
            "config": saved.identity["config"] if saved else self.settings,
            "replicas": self.replica_settings,
            "classes": [task_classes(benchmark, replica.stream) for replica in self.replicas],
            "engine": self.engine.name,
            "engine_reason": self.engine_reason,
            "data": data_fingerprint(benchmark),
            "fingerprint": self.run_data_order_fingerprint,
        }


class TrainedRun(NamedTuple):
    """What training gave."""

    outcome: Outcome
    metrics: MetricsJson


def train(
    config: DictConfig,
    folder: Path,
    console: Console,
    file_texts: Mapping[str, str] | None = None,
    replaces_unfinished: bool = False,
) -> MetricsJson:
    """Carry out the run that a config describes; returns what `metrics.json` holds.

    file_texts: texts to write into the folder too, by name;  replaces_unfinished: whether the run
    begins anew where the folder has an unfinished one, which else is refused unless the config says
    what is to become of it.
    """
    start_time = time.perf_counter()
    check_settings(plain_values(config))
    refuse_finished_run(folder, config.get("overwrite", False))
    run = prepare(config)
    saved = saved_run_to_resume(run, folder)
    if saved is None:
        warn_where_optimizer_can_break_constraints(run.parts)
        warn_of_step_sizes(run.replicas)
        warn_of_warm_up(
            run.parts.schedule,
            {
                "task": longest_task_steps(run.replicas[0], run.plan),
                "run": planned_steps(run.replicas[0], run.plan),
            },
        )
    texts = {"config.yaml": repeatable_config_yaml(run.config), **(file_texts or {})}
    resumes_automatically = config.get("resume", "never") == "auto"
    run_folder = RunFolder(
        folder,
        config.get("overwrite", False),
        texts,
        resumes=bool(saved),
        replaces_unfinished=replaces_unfinished or resumes_automatically,
    )
    console.print(run.title())
    console.print(f"writes to {folder}", soft_wrap=True)
    if saved:
        console.print(f"goes on from {saved.path.name}")
    elif resumes_automatically:
        console.print("begins anew, as this folder has no unfinished run of these settings")
    elif run_folder.replaced_unfinished:
        console.print("begins anew, where `resume=auto` would go on with an unfinished run")
    record = run.record(saved)
    with failure_recorded_in_folder(run_folder, record):
        outcome, metrics = train_and_complete_record(
            run, run_folder, saved, console, record, start_time
        )
        results = ({"quick": True} if is_quick(run.config) else {}) | metrics
        run_folder.finish(outcome, results, record, network_file_content(run, outcome))
    show_results(run, outcome, results, console)
    if config.get("report", True):
        write_page_or_warn(folder, run_title(run.config))
    console.print(f"{timing_sentence(record)}; written to {folder}", soft_wrap=True)
    return results


def saved_run_to_resume(run: PreparedRun, folder: Path) -> SavedRun | None:
    """What the folder holds of an unfinished run that goes on; None where the run begins anew.

    Raises UserError where something is no longer what it was, unless the unfinished run may be
    overwritten.
    """
    saved = newest_saved_run(folder) if run.config.get("resume", "never") == "auto" else None
    if saved is None:
        return None
    try:
        check_identity(folder, saved.identity, run.identity())
    except UserError:
        if not run.config.get("overwrite", False):
            raise
        return None
    return saved


def prepare(config: DictConfig) -> PreparedRun:
    """The run of a config. Raises UserError where a value is out of its domain, or memory cannot
    hold it."""
    config = config_without_missing_datasets(config)
    device, plan = choose_device(config), read_plan(config)
    reset_peak_memory(device)
    parts, replicas, replica_settings = build_run(config, device)
    work = describe_workload(parts, replicas, plan)
    torch.set_num_threads(choose_threads(config.threads, work))
    engine, reason = choose_engine(config.engine, work, device)
    engine = with_test_threads(engine, config.threads or DEFAULT_THREADS)
    at_once = replicas_at_once(parts, replicas[0], config.memory_budget, device)
    if parts.benchmark.images_on_host:
        budget = image_budget_bytes(config, device)
        at_once = min(at_once, replicas_within_image_budget(parts, plan, budget, device))
    needs = needs_of_run(parts, replicas[:at_once], plan, engine.name, device)
    check_needs(needs, free_bytes(device))
    streams = run_data_order_fingerprint(parts, replicas, plan)
    how = device, plan, parts, replicas, replica_settings, engine, reason, at_once, streams
    return PreparedRun(config, plain_values(config), *how, total_need_text_if_large(needs))


def train_and_complete_record(
    run: PreparedRun,
    run_folder: RunFolder,
    saved: SavedRun | None,
    console: Console,
    record: dict[str, Any],
    start_time: float,
) -> TrainedRun:
    """Train the run's replicas, and complete its record.

    saved: where it goes on;  start_time: when the command began, by time.perf_counter. Raises
    UserError where training fails.
    """
    config, folder = run.config, run_folder.folder
    minutes = config.get("checkpoint", {"minutes": None})["minutes"]
    identity = (lambda: saved.identity) if saved else run.identity
    remaining_time = RemainingTime(work_of(run.parts, run.replicas[0], run.plan), len(run.replicas))
    display = Display(console, remaining_time, "" if is_quick(config) else TRY_IN_SMALL)
    warner = RunawayWarner(
        run.parts.benchmark.outputs,
        lambda runaway: warn_of_runaway(runaway, config, run.replica_settings),
    )
    logging = logging_watcher(run, folder)
    setup = time.perf_counter() - start_time
    try:
        with display, closing(logging):
            outcome = train_replica_groups(
                run.parts,
                run.replicas,
                run.engine,
                run.plan,
                [run_folder, display, warner, logging],
                replica_groups(run.replicas, run.replicas_at_once),
                Checkpoints(folder, minutes, identity),
                saved,
            )
            metrics = run_metrics(outcome, run.replica_settings, config.metrics.convention)
            logging.finish(metrics["replicas"], outcome.accuracy)
    finally:
        record["runaways"] = warner.record()
    reported = run.parts.method.report(outcome.learners.method_state)
    reports = {name: value.tolist() for name, value in reported.items() if name not in record}
    counts = run_folder.constraint_counts()
    machine = machine_record(run.device)
    record |= reports | machine | run_costs(outcome, setup, run.parts.benchmark) | counts
    record |= {"quick": True} if is_quick(config) else {}
    return TrainedRun(outcome, metrics)


@contextmanager
def failure_recorded_in_folder(run_folder: RunFolder, record: dict[str, Any]) -> Iterator[None]:
    """Let a UserError of the block say that the run is unfinished, in its folder too. However the
    block ends, the folder is free then.

    record: the content of record.json so far. Where a file could not be written, as on a full disk,
    the error says what goes on from there once it can be.
    """
    try:
        yield
    except UserError as error:
        with suppress(UserError):  # the error that ended the run is the one to tell
            run_folder.write("record.json", json_text(record | {"failed": str(error)}))
        is_of_files = isinstance(error.__cause__, OSError)
        folder = run_folder.folder
        note = resume_note_of_run(folder) if is_of_files else f"{folder} is an unfinished run"
        raise UserError(f"{error}; {note}") from error
    finally:  # also where memory ran out and the next job of a sweep runs in this process
        run_folder.release()


def show_results(
    run: PreparedRun, outcome: Outcome, results: MetricsJson, console: Console
) -> None:
    """Print the accuracy matrix and the metrics of each setting."""
    order = [r for _, members in replicas_by_setting(run.replica_settings) for r in members]
    quick = is_quick(run.config)
    for table in run_tables(results["settings"], outcome.accuracy[order], quick):
        console.print(table)


def network_file_content(run: PreparedRun, outcome: Outcome) -> bytes | None:
    """The content of network.safetensors, None where the run keeps no networks."""
    if run.config.get("save", "network") == "none":  # which earlier versions' configs do not say
        return None
    return network_file(run.parts, run.replicas, outcome.learners)


def logging_watcher(run: PreparedRun, folder: Path) -> LoggingWatcher:
    """What tells the loggers that a run asks for."""
    names = logger_names(run.config.get("logger", CSV))
    settings = flat_settings(run.settings)
    parameters = [settings | numbers for numbers in run.replica_settings]
    return LoggingWatcher(make_loggers(names, folder, run.config.name), parameters)


def write_page_or_warn(folder: Path, title: str) -> None:
    """Write `report.html`; a run without it is finished all the same."""
    try:
        run_page.write_run_page(folder, title)
    except UserError as error:
        warnings.warn(f"report.html is not written: {error}", stacklevel=1)


def describe_workload(parts: Parts, replicas: list[Replica], plan: TrainingPlan) -> Workload:
    """What an engine is chosen for."""
    # tasks may end at times of their own
    together = 1 if looks_at_losses(parts.schedule) else len(replicas)
    longest, steps = longest_task_steps(replicas[0], plan), planned_steps(replicas[0], plan)
    return Workload(parts, together, longest, steps, plan.batch_size)


def longest_task_steps(replica: Replica, plan: TrainingPlan) -> int:
    """How many steps a replica takes in its longest task, if no pass is left out."""
    return max(-(-len(rows) // plan.batch_size) for rows in replica.stream.train_rows) * plan.passes


def planned_steps(replica: Replica, plan: TrainingPlan) -> int:
    """How many steps a replica takes, if no pass is left out."""
    return sum(-(-len(rows) // plan.batch_size) for rows in replica.stream.train_rows) * plan.passes


def run_data_order_fingerprint(parts: Parts, replicas: list[Replica], plan: TrainingPlan) -> str:
    """A hash of the streams of all replicas."""
    streams, seeds = [r.stream for r in replicas], [r.seed for r in replicas]
    return data_order_fingerprint(streams, seeds, plan.passes, parts.method.shuffles_tasks_together)


def run_title(config: DictConfig) -> str:
    """The run in a few words."""
    objective = (
        f" with {config.objective.name}'s objective" if config.get("objective") is not None else ""
    )
    quick = ", a quick run" if is_quick(config) else ""
    return f"{config.name}: {config.method.name}{objective}{quick}"


def run_costs(outcome: Outcome, setup_seconds: float, benchmark: Benchmark) -> dict[str, Any]:
    """What a run took, for record.json."""
    return {
        "setup_seconds": setup_seconds,
        "training_seconds": outcome.training_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "steps": outcome.steps,
        "steps_per_second": outcome.steps / outcome.training_seconds,
        "backward_passes": outcome.backward_passes,
        "kept_bytes": kept_bytes(outcome.learners, benchmark),
        "stored_examples": stored_examples(outcome.learners),
    }


def timing_sentence(record: dict[str, Any]) -> str:
    """The cost of a run in words."""
    return (
        f"{record['training_seconds']:.1f} s training at {record['steps_per_second']:.0f} steps/s,"
        f" {record['evaluation_seconds']:.1f} s testing"
    )


def repeatable_config_yaml(config: DictConfig) -> str:
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
