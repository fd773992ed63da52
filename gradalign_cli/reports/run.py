"""The run folders of a report: looked for, read with bounds, and checked, as they may come from
others. Nothing of them is executed."""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradalign_cli.errors import UserError, os_errors_as_sentences, require
from gradalign_cli.results.final_files import FINAL_FILES, LAST_FILE
from gradalign_cli.results.run_files import (
    check_agreement,
    is_finite_number,
    read_accuracy_per_replica,
    read_json_mapping,
    read_metrics_per_replica,
)

DEEPEST_FOLDER, MOST_FOLDERS = 5, 50_000  # below a folder that was named
FILES_OF_A_RUN = (*FINAL_FILES, "record.json", "alignment.csv")
COSTS_OF_ALL_REPLICAS = ("training_seconds", "backward_passes")
COSTS = (*COSTS_OF_ALL_REPLICAS, "kept_bytes")
LONGEST_REASON = 300  # letters


class Run(NamedTuple):
    """A finished run.

    config: as composed;  replica_settings_and_metrics: of each its numbers (seed, lr, ...) and its
    metrics;  setting_names: which of them are numbers that were set;  accuracy: [R, T + 1, T];
    record: the content of record.json.
    """

    folder: Path
    config: dict[str, Any]
    replica_settings_and_metrics: list[dict[str, float]]
    setting_names: tuple[str, ...]
    accuracy: np.ndarray
    record: dict[str, Any]

    def has_one_setting(self) -> bool:
        """Whether its replicas differ by their seeds alone."""
        names = [name for name in self.setting_names if name != "seed"]
        replicas = self.replica_settings_and_metrics
        return len({tuple(replica[name] for name in names) for replica in replicas}) <= 1

    def cost_per_replica(self, name: str) -> float:
        """A cost of record.json, for one replica where it is counted over all; NaN where it is
        missing."""
        value: Any = self.record.get(name)
        if not is_finite_number(value):
            return math.nan
        replicas = len(self.replica_settings_and_metrics)
        return float(value) / (replicas if name in COSTS_OF_ALL_REPLICAS else 1)


class Reading(NamedTuple):
    """What folders hold.

    runs: the finished runs;  unfinished_folders: of the others;  refusal_sentences: one for each
    folder whose files are not those of a run.
    """

    runs: list[Run]
    unfinished_folders: list[Path]
    refusal_sentences: list[str]


def read_runs(folders: Iterable[Path]) -> Reading:
    """The runs in these folders, or in folders below them. Raises UserError where one is no folder
    or there is no run at all."""
    runs, unfinished, refused = [], [], []
    for folder in dict.fromkeys(run for top in folders for run in run_folders(top)):
        if not (folder / LAST_FILE).is_file():
            unfinished.append(folder)
            continue
        try:
            runs.append(read_run(folder))
        except UserError as error:
            refused.append(f"{folder} is left out: {printable_line(str(error), LONGEST_REASON)}")
    return Reading(runs, unfinished, refused)


def printable_line(text: str, max_letters: int) -> str:
    """Text from a stranger as one line of letters that a terminal shows, at most `max_letters`."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:max_letters])


def run_folders(top: Path) -> list[Path]:
    """The folders of runs in a folder and below it, sorted. Links below it are not followed."""
    require(top.is_dir(), "DIR", "a folder of runs", str(top))
    folders = []
    for number, (folder, names) in enumerate(walk_folders(top.resolve(), DEEPEST_FOLDER)):
        require(number < MOST_FOLDERS, "DIR", f"of at most {MOST_FOLDERS} folders", str(top))
        if any(name in names for name in FILES_OF_A_RUN):
            folders.append(folder)
    return sorted(folders)


def walk_folders(folder: Path, levels_below: int) -> Iterator[tuple[Path, set[str]]]:
    """A folder and those below it down to a depth, each with the names in it; hidden folders and
    links are left out."""
    with os_errors_as_sentences("read", folder), os.scandir(folder) as entries:
        content = list(entries)
    yield folder, {entry.name for entry in content}
    for entry in content:
        if levels_below and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from walk_folders(folder / entry.name, levels_below - 1)


def read_run(folder: Path) -> Run:
    """The finished run in a folder; UserError where its files are not those of a run."""
    record = read_json_mapping(folder / "record.json")
    config = record.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("method"), dict):
        raise UserError("`config` of record.json must be the config of a run")
    replicas = read_metrics_per_replica(folder / "metrics.json")
    settings = record.get("replicas")
    if not isinstance(settings, list) or len(settings) != len(replicas):
        raise UserError("`replicas` of record.json and of metrics.json must be equally many")
    names = tuple(settings[0]) if isinstance(settings[0], dict) else ()
    if not all(name in replica for name in ("seed", *names) for replica in replicas):
        raise UserError("`replicas` of metrics.json must have the numbers of record.json")
    for name in COSTS:
        value: Any = record.get(name, 0)
        require(is_finite_number(value) and value >= 0, name, "non-negative", value)
    accuracy = read_accuracy_per_replica(folder / LAST_FILE, len(replicas))
    check_agreement(replicas, accuracy, config)
    return Run(folder, config, replicas, names, accuracy, record)
