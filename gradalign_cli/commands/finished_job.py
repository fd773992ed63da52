"""A job of a sweep whose run is there already: its results are taken, and it is not run again."""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from gradalign_cli.composition.datasets import config_without_missing_datasets
from gradalign_cli.composition.present_data import is_other_data
from gradalign_cli.composition.schema import plain_values
from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import lock_owner
from gradalign_cli.files.reading import read_json
from gradalign_cli.results.run_files import SETTINGS_WITHOUT_EFFECT
from gradalign_cli.results.run_metrics import MetricsJson
from gradalign_cli.results.sweep_folder import LARGEST_RECORD, is_finished

LARGEST_METRICS = 2**26  # bytes of a metrics.json
SECONDS_BETWEEN_LOOKS = 1.0


def earlier_results(config: DictConfig, folder: Path, console: Console) -> MetricsJson | None:
    """The content of metrics.json of the finished run in a job's folder, None where there is none
    or it is not to be taken. A process that has the folder now is waited for.

    Raises UserError where the run is one of other settings or other data, or its folder is
    damaged.
    """
    if not config.get("skip_finished", True) or config.get("overwrite", False):
        return None
    wait_until_unlocked(folder, console)
    if not is_finished(folder):
        return None
    record, results = read_finished_run(folder)
    narrowed = config_without_missing_datasets(config)
    other = different_settings(record["config"], plain_values(narrowed))
    difference = f"other settings ({', '.join(f'`{name}`' for name in other)})" if other else ""
    if not other and is_other_data(record, narrowed):
        difference = "other data: the examples of its benchmark have changed"
    if difference:
        raise UserError(
            f"{folder} holds a finished run of {difference}; `overwrite=true` replaces "
            "it, and another `hydra.sweep.dir` leaves it"
        )
    console.print(f"{folder.name}: was finished before")
    return results


def read_finished_run(folder: Path) -> tuple[dict[str, Any], MetricsJson]:
    """The record.json of a finished run, which has a config, and the content of its metrics.json.

    Raises UserError, which says what to do next, where one of the files is damaged or missing.
    """
    try:
        record = read_json(folder / "record.json", LARGEST_RECORD)
        results = read_json(folder / "metrics.json", LARGEST_METRICS)
        config = record.get("config") if isinstance(record, dict) else None
        replicas = results.get("replicas") if isinstance(results, dict) else None
        if not isinstance(config, dict):
            raise UserError(f"{folder / 'record.json'} must have the config of a run")
        if not isinstance(replicas, list) or not {type(r) for r in replicas} == {dict}:
            raise UserError(f"{folder / 'metrics.json'} must have the metrics of a run")
        return record, results
    except UserError as error:
        advice = f"remove {folder} and the same command runs this job again"
        raise UserError(f"{error}; {advice}, `overwrite=true` all jobs") from error


def different_settings(earlier_settings: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The names of the settings of a run, of those that have an effect on its results, that differ
    from an earlier one's.

    earlier_settings: the config in a record.json.
    """
    names = sorted({*earlier_settings, *settings} - {*SETTINGS_WITHOUT_EFFECT, "plugins"})
    return [
        name
        for name in names
        if none_if_falsy(earlier_settings.get(name)) != none_if_falsy(settings.get(name))
    ]


def none_if_falsy(value: Any) -> Any:
    """A setting as it is after it was written to a file: null, false and absent are one."""
    return value or None


def wait_until_unlocked(locked_folder: Path, console: Console) -> None:
    """Wait until no other process has a folder, as when a sweep is started again while a job of the
    earlier one goes on."""
    said = ""
    while owner := lock_owner(locked_folder):
        if owner != said:
            console.print(f"{locked_folder.name}: waits for {owner}, which has its folder")
            said = owner
        time.sleep(SECONDS_BETWEEN_LOOKS)
