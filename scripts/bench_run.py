"""Wall time of whole runs, from the command to the written folder, and where it goes.

    python scripts/bench_run.py [RUN ...] [--seeds N] [--rounds N] [--device DEVICE] [--json FILE]
                                [--overrides OVERRIDE ...]

Every run is a process of its own, after one that only warms the disk's cache; a row gives the
median of the rounds and the slowest and fastest. Beside it: what the bare loop of bench_step.py
would take for the same steps alone, measured in this process at the mean number of earlier tasks,
with no data to prepare, nothing tested and nothing written.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bench_step import bare, measure, works
from rich.console import Console
from rich.table import Table

from gradalign_cli.numerics.allocator import keep_freed_memory

RUNS = {  # overrides, and the work of bench_step.py whose steps they take
    "start": (["benchmark.first_tasks=1"], None),
    "agem_permuted_mnist": (["+experiment=agem_permuted_mnist"], "agem_mlp"),
    "agem_split_cifar": (["+experiment=agem_split_cifar"], "agem_resnet"),
    "gem_mnist_rotations": (["+experiment=gem_mnist_rotations"], "gem_mlp"),
    "gem_mnist_permutations": (["+experiment=gem_mnist_permutations"], "gem_mlp"),
    "gem_cifar100": (["+experiment=gem_cifar100"], None),
}
COLUMNS = ("wall", "slowest", "fastest", "training", "testing", "rest", "steps/s", "bare loop")


def run(overrides: list[str]) -> dict[str, Any]:
    """Seconds of one run by where they went, and its steps."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gradalign_cli.cli", "train", *overrides]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, f"hydra.run.dir={folder}/run"], capture_output=True, text=True
        )
        wall = time.perf_counter() - begin
        if done.returncode:
            sys.exit(done.stderr)
        record = json.loads((Path(folder) / "run" / "record.json").read_text())
    training, testing = record["training_seconds"], record["evaluation_seconds"]
    rest = wall - training - testing
    return {"wall": wall, "training": training, "testing": testing, "rest": rest} | {
        "steps": record["steps"],
        "steps/s": record["steps_per_second"],
    }


def bare_seconds(work_name: str, device: torch.device) -> float:
    """Seconds of a step of the bare loop."""
    work = works(device)[work_name]()
    (spent,) = measure({"bare": bare(work, device)}, 3, device).values()
    return statistics.median(spent) / work.steps


def main() -> None:
    """Measure what is asked for, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--overrides", nargs="*", default=[], metavar="OVERRIDE")
    chosen = parser.parse_args()
    keep_freed_memory()
    seeds = ",".join(map(str, range(chosen.seeds)))
    common = [f"replicas.seed=[{seeds}]", f"device={chosen.device}", *chosen.overrides]
    table = Table(title=f"seconds of whole runs, {chosen.seeds} seed(s), {chosen.device}")
    for column in ("run", *COLUMNS):
        table.add_column(column, justify="left" if column == "run" else "right")
    found: dict[str, list[dict[str, Any]]] = {}
    run(common)  # the disk's cache
    for name in chosen.runs or RUNS:
        overrides, work = RUNS[name]
        found[name] = [run([*overrides, *common]) for _ in range(chosen.rounds)]
        middle = {key: statistics.median(r[key] for r in found[name]) for key in found[name][0]}
        walls = [each["wall"] for each in found[name]]
        shown = [middle["wall"], max(walls), min(walls)]
        shown += [middle[key] for key in ("training", "testing", "rest", "steps/s")]
        loop = f"{bare_seconds(work, chosen.device) * middle['steps']:.1f}" if work else "-"
        table.add_row(name, *(f"{value:.1f}" for value in shown), loop)
    Console().print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
