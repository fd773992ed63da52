"""`gradalign train`: build a run from its config, train, write its folder, show its table."""

import math
import sys
import time
from contextlib import suppress

import numpy as np
from omegaconf import DictConfig

from gradalign_cli.commands.exit import failure_file_text, report
from gradalign_cli.commands.finished_job import earlier_results
from gradalign_cli.commands.sweep_table import is_failed, sweep_table
from gradalign_cli.commands.train_help import asks_for_help, print_help
from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.hydra_jobs import (
    hydra_errors_as_sentences,
    hydra_file_texts,
    job_folder,
    job_overrides_text,
    plugin_folders,
    run_jobs,
    sweep_folder,
    sweep_job_text,
)
from gradalign_cli.composition.schema import plain_values
from gradalign_cli.composition.targets import allow_plugins
from gradalign_cli.errors import UserError, require_name
from gradalign_cli.numerics.allocator import keep_freed_memory
from gradalign_cli.results.durations import duration_text
from gradalign_cli.results.run_metrics import MetricsJson
from gradalign_cli.results.stop_notes import resume_note_of_run, resume_note_of_sweep
from gradalign_cli.results.sweep_folder import write_failure
from gradalign_cli.results.terminal import terminal_console


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
            settings = plain_values(config)
        allow_plugins(settings.get("plugins", []), plugin_folders())
        results = earlier_results(config, folder, console) if number else None
        was_finished = results is not None
        if results is None:
            texts = hydra_file_texts(config)
            results = train(config, folder, console, texts, replaces_unfinished=number is not None)
        value = mean_metric(results, config.get("objective_metric", "ACC"))
    except KeyboardInterrupt as stop:
        stop.add_note(
            resume_note_of_sweep(sweep) if (sweep := sweep_folder()) else resume_note_of_run(folder)
        )
        raise
    except Exception as error:
        exit_code = report(error, folder)
        if number is None:
            sys.exit(exit_code)  # Hydra would print a line of its own before the error
        console.print(f"{number}: failed")
        with suppress(UserError):  # where nothing can be written, the line on stderr must do
            write_failure(folder, failure_file_text(error, folder))
        return math.nan
    if number and not was_finished:
        console.print(f"{number}: finished in {duration_text(time.perf_counter() - begin)}")
    return value


def mean_metric(results: MetricsJson, metric_name: str) -> float:
    """The mean of a metric over all replicas, NaN where one has none;  results: the content of
    metrics.json, in which null stands for NaN.

    Raises UserError where the run has no such metric.
    """
    replicas = results["replicas"]
    require_name(metric_name, replicas[0], "objective_metric", f"one of {', '.join(replicas[0])}")
    values = [replica[metric_name] for replica in replicas]
    return float(np.mean([math.nan if value is None else value for value in values]))
