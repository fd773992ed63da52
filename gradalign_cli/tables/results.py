"""The results of finished runs, looked up by what a run computes and not by its folder's name."""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gradalign_cli.composition.compose import compose_config
from gradalign_cli.errors import UserError, require
from gradalign_cli.results.final_files import LAST_FILE
from gradalign_cli.results.machine import NUMERICS
from gradalign_cli.results.run_files import (
    SETTINGS_WITHOUT_EFFECT,
    check_agreement,
    is_finite_number,
    read_accuracy_per_replica,
    read_json_mapping,
    read_metrics_per_replica,
)
from gradalign_cli.tables.table import Cell

# settings that came later, and the value at which a run is as it was without them
LATER_SETTINGS: dict[str, Any] = {
    "alignment.of": "gradient",
    "augment": None,
    "buffer.admission": "example",
    "buffer.shrinks": False,
    "optimizer.at_task_end": "keep",
    "optimizer.nesterov": False,
    "plugins": [],
    "quick": False,
}
# training these networks enlarges rounding, up to points of accuracy, and the order of the sums in
# BatchNorm and in gradients of kernels follows the number of threads; docs/design.md has figures
SENSITIVE_NETWORKS = (
    "gradalign_cli.models.resnet.",
    "gradalign_cli.models.convnet.",
    "gradalign_cli.models.module.",
)
MACHINE_ENTRIES = ("gradalign", "torch", "git_commit", "device", "device_name", "threads")
QUICK_OVERRIDES = ("quick=true",)
MOST_SECONDS = 1e10  # of a run
DAMAGED_NAME = re.compile(r"_damaged_\d+$")  # of a run's folder that was set aside


class Result(NamedTuple):
    """What the finished runs of a cell gave.

    seeds:   for each seed the value of each metric, as a fraction.
    seconds: training and tests of all seeds together.
    machine: the versions and the hardware, as in MACHINE_ENTRIES.
    """

    seeds: dict[int, dict[str, float]]
    seconds: float
    machine: dict[str, Any]


def run_key(config: dict[str, Any]) -> str:
    """A hash of what a run computes, without its seeds. Runs with one key give the same numbers for
    the same seed, up to rounding; a quick run never has the key of a full one.

    Where rounding can change accuracies, `threads` is part of the key. Without a number of threads,
    device and cores still differ between machines; such runs count as the same.
    """
    relevant = {
        name: value for name, value in config.items() if name not in SETTINGS_WITHOUT_EFFECT
    }
    relevant = without_later_settings(relevant)
    if config["model"]["_target_"].startswith(SENSITIVE_NETWORKS):
        relevant["threads"] = config.get("threads")
    replicas, metrics = config["replicas"], config["metrics"]
    relevant["replicas"] = {name: value for name, value in replicas.items() if name != "seed"}
    # tests between the steps add metrics and leave the others as they are
    relevant["metrics"] = {
        name: value for name, value in metrics.items() if not name.startswith("continual")
    }
    text = json.dumps([NUMERICS, relevant], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def without_later_settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config without the settings that a run of an earlier version does not have, where they
    change nothing;  prefix: the dotted name of the config and a dot."""
    earlier: dict[str, Any] = {}
    for name, value in config.items():
        field = f"{prefix}{name}"
        if field in LATER_SETTINGS and value == LATER_SETTINGS[field]:
            continue
        earlier[name] = (
            without_later_settings(value, f"{field}.") if isinstance(value, dict) else value
        )
    return earlier


def compose_cell(
    shipped_conf_folder: Path, cell: Cell, quick: bool, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The config of the runs that compute a cell;  overrides: those of every run of the table."""
    overrides = (*cell.overrides, *QUICK_OVERRIDES * quick, *overrides)
    return compose_config(shipped_conf_folder, overrides).settings


def possible_metrics(config: dict[str, Any]) -> set[str]:
    """The names of the metrics that a run of this config can have."""
    names = {"ACC", "BWT", "FWT", "forgetting", "LA", "AAA"}
    if config["benchmark"].get("scenario", "class") == "class":
        names |= {f"{name}_task" for name in names}
    if config["metrics"]["lca_batches"]:
        names.add(f"LCA{config['metrics']['lca_batches']}")
    if config["metrics"]["continual_every"]:
        names |= {"min_ACC", "WC_ACC", "stability_gap"}
    return names


def read_key_and_result(folder: Path) -> tuple[str, Result] | None:
    """The key and the result of the run in a folder. None where the run is not finished, or is of a
    version whose numbers differ by more than rounding. Raises UserError where its files are not
    those of a run."""
    if not (folder / LAST_FILE).is_file():
        return None
    record = read_json_mapping(folder / "record.json")
    if record.get("numerics", 1) != NUMERICS:
        return None
    replicas = read_metrics_per_replica(folder / "metrics.json")
    accuracies = read_accuracy_per_replica(folder / LAST_FILE, len(replicas))
    seeds = {int(replica["seed"]): replica for replica in replicas}
    seconds = 0.0
    for name in ("training_seconds", "evaluation_seconds"):
        value: Any = record.get(name)
        is_time = is_finite_number(value) and 0 <= value <= MOST_SECONDS
        require(is_time, name, f"from 0 to {MOST_SECONDS:g}", value)
        seconds += value
    machine = {
        name: record[name] for name in MACHINE_ENTRIES if isinstance(record.get(name), str | int)
    }
    try:
        key = run_key(record["config"])
        listed = record["config"]["replicas"]["seed"]
        recorded_seeds = set(listed if isinstance(listed, list) else [listed])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(
            f"`config` of record.json must be the config of a run ({error!r})"
        ) from error
    is_same = recorded_seeds == seeds.keys()
    require(is_same, "seed", f"those of record.json in metrics.json, {recorded_seeds}", set(seeds))
    check_agreement(replicas, accuracies, record["config"])
    return key, Result(seeds, seconds, machine)


def run_folders(folder: Path) -> list[Path]:
    """The folders that may be those of runs: the folder, those in it, those in its `runs`, as a
    table's folder has them, and those in the `runs` of the folders in it; without those that are
    set aside as damaged."""
    entries = [path for pattern in ("*", "runs/*", "*/runs/*") for path in folder.glob(pattern)]
    subfolders = [path for path in entries if path.is_dir() and not is_set_aside_as_damaged(path)]
    return [folder, *sorted(subfolders)]


def results_by_key(folders: Iterable[Path]) -> dict[str, list[Result]]:
    """For each key the results of all finished runs of the folders, see `run_folders`. A folder
    whose files are not those of a run is named in a warning, and not counted."""
    results: dict[str, list[Result]] = {}
    for folder in folders:
        for run_folder in run_folders(folder):
            if run := key_and_result_or_warning(run_folder):
                key, result = run
                results.setdefault(key, []).append(result)
    return results


def key_and_result_or_warning(run_folder: Path) -> tuple[str, Result] | None:
    """See `read_key_and_result`; None, with a warning that names the folder, where its files are
    not those of a run."""
    try:
        return read_key_and_result(run_folder)
    except UserError as error:
        sentence = str(error).replace(f"{run_folder}/", "")[:300]
        reason = "".join(c if c.isprintable() else "?" for c in sentence)
        warnings.warn(f"{run_folder} is left out: {reason}", stacklevel=1)
        return None


def is_set_aside_as_damaged(run_folder: Path) -> bool:
    """Whether the folder has the name of a damaged run that was set aside."""
    return DAMAGED_NAME.search(run_folder.name) is not None


def merged_result(results: Sequence[Result]) -> Result | None:
    """The results of one cell's runs as one, None where there are none.

    It has the seeds of all runs. Where several runs have the same metric of a seed, the first run
    counts. Their seconds are added up, of each run the share of those seeds to which it adds
    something. The machine is that of the first run.
    """
    if not results:
        return None
    seeds: dict[int, dict[str, float]] = {}
    seconds = 0.0
    for result in results:
        added = [
            seed
            for seed, metrics in result.seeds.items()
            if metrics.keys() - seeds.get(seed, {}).keys()
        ]
        seconds += result.seconds * len(added) / max(1, len(result.seeds))
        seeds |= {seed: metrics | seeds.get(seed, {}) for seed, metrics in result.seeds.items()}
    return results[0]._replace(seeds=dict(sorted(seeds.items())), seconds=seconds)
