"""What finished runs say about a cell: found again by what was run, not by where it lies."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gradalign_cli.composition.compose import composed
from gradalign_cli.results.machine import NUMERICS
from gradalign_cli.tables.table import Cell

# where and how something is computed; the result is the same up to rounding
ELSEWHERE = ("name", "data_dir", "device", "threads", "engine", "memory_budget", "paper")
QUICK = (
    "++benchmark.first_tasks=3",
    "++benchmark.samples_per_task=200",
    "metrics.lca_batches=0",
)


class Result(NamedTuple):
    """A finished run: metrics of each seed, seconds of all, where it ran, and of which version."""

    seeds: dict[int, dict[str, float]]
    seconds: float
    machine: dict[str, Any]


def key(config: dict[str, Any]) -> str:
    """What a run computes, but for its seeds: the same key means the same numbers."""
    kept = {name: value for name, value in config.items() if name not in ELSEWHERE}
    kept["replicas"] = {k: v for k, v in config["replicas"].items() if k != "seed"}
    # tests on the way add numbers and change none
    looks = config["metrics"].items()
    kept["metrics"] = {k: v for k, v in looks if not k.startswith("continual")}
    text = json.dumps([NUMERICS, kept], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def cell_key(conf: Path, cell: Cell, quick: bool) -> str:
    """The key of a cell's runs."""
    return key(composed(conf, cell.overrides + QUICK * quick)[0])


def read(folder: Path) -> tuple[str, Result] | None:
    """The key and the result of a run folder; None where the run is not finished."""
    if not (folder / "accuracy.csv").is_file():  # written last
        return None
    record = json.loads((folder / "record.json").read_text())
    replicas = json.loads((folder / "metrics.json").read_text())["replicas"]
    if record.get("numerics", 1) != NUMERICS:
        return None
    told = ("gradalign", "torch", "git_commit", "device", "device_name", "threads")
    seeds = {int(own["seed"]): own for own in replicas}
    seconds = record["training_seconds"] + record["evaluation_seconds"]
    machine = {name: record[name] for name in told if name in record}
    return key(record["config"]), Result(seeds, seconds, machine)


def gather(folders: Iterable[Path]) -> dict[str, list[Result]]:
    """Results of all finished runs in or directly under the folders, by key."""
    found: dict[str, list[Result]] = {}
    for folder in folders:
        for place in [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]:
            result = read(place)
            if result:
                found.setdefault(result[0], []).append(result[1])
    return found


def merged(results: Sequence[Result]) -> Result | None:
    """All seeds that several runs of one cell have; of a number found twice the first counts."""
    if not results:
        return None
    seeds: dict[int, dict[str, float]] = {}
    for result in results:
        seeds |= {seed: own | seeds.get(seed, {}) for seed, own in result.seeds.items()}
    first = results[0]
    seconds = sum(result.seconds for result in results)
    return first._replace(seeds=dict(sorted(seeds.items())), seconds=seconds)
