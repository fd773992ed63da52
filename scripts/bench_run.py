"""Wall time of whole runs, from the command to the written folder, and where it goes.

    python scripts/bench_run.py [RUN ...] [--seeds N] [--rounds N] [--device DEVICE] [--json FILE]
                                [--overrides OVERRIDE ...]

Every run is a process of its own; the first one only warms the disk's cache. A row gives the median
of the rounds and the slowest and fastest. Beside it stands what the bare loop of bench_step.py
would take for the same steps alone. It is measured in this process at the mean number of earlier
tasks, with no data to prepare, nothing tested and nothing written. Needs no extra; all runs but
`start` need MNIST or CIFAR-100 in the data folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bench_step import bare_round, round_seconds, work_factories
from rich.console import Console
from rich.table import Table

from gradalign_cli.numerics.allocator import keep_freed_memory

RUNS = {  # the overrides, and the work of bench_step.py whose steps they take
    "start": (["benchmark.first_tasks=1"], None),
    "agem_permuted_mnist": (["+experiment=agem_permuted_mnist"], "agem_mlp"),
    "agem_split_cifar": (["+experiment=agem_split_cifar"], "agem_resnet"),
    "gem_mnist_rotations": (["+experiment=gem_mnist_rotations"], "gem_mlp"),
    "gem_mnist_permutations": (["+experiment=gem_mnist_permutations"], "gem_mlp"),
    "gem_cifar100": (["+experiment=gem_cifar100"], None),
}
COLUMNS = ("wall", "slowest", "fastest", "training", "testing", "rest", "steps/s", "bare loop")


def run_costs(overrides: list[str]) -> dict[str, float]:
    """The seconds of one run in all, in training, in tests and in the rest, and its steps. Exits
    with what the run printed if it fails."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gradalign_cli.cli", "train", *overrides]
        begin = time.perf_counter()
        process = subprocess.run(
            [*command, f"hydra.run.dir={folder}/run"], capture_output=True, text=True
        )
        wall = time.perf_counter() - begin
        if process.returncode:
            sys.exit(process.stderr)
        record = json.loads((Path(folder) / "run" / "record.json").read_text())
    training, testing = record["training_seconds"], record["evaluation_seconds"]
    return {
        "wall": wall,
        "training": training,
        "testing": testing,
        "rest": wall - training - testing,
        "steps": record["steps"],
        "steps/s": record["steps_per_second"],
    }


def bare_seconds_per_step(work_name: str, device: torch.device) -> float:
    """The seconds of a step of the bare loop."""
    work = work_factories(device)[work_name]()
    (seconds,) = round_seconds({"bare loop": bare_round(work, device)}, 3, device).values()
    return statistics.median(seconds) / work.steps


def row_texts(
    rounds: list[dict[str, float]], work_name: str | None, device: torch.device
) -> list[str]:
    """A row of the table, in the order of COLUMNS, from the costs of a run in several rounds."""
    medians = {name: statistics.median(costs[name] for costs in rounds) for name in rounds[0]}
    walls = [costs["wall"] for costs in rounds]
    values = [medians["wall"], max(walls), min(walls)]
    values += [medians[name] for name in ("training", "testing", "rest", "steps/s")]
    bare_loop = "-"
    if work_name:
        bare_loop = f"{bare_seconds_per_step(work_name, device) * medians['steps']:.1f}"
    return [*(f"{value:.1f}" for value in values), bare_loop]


def main() -> None:
    """Measure the named runs, or all; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--overrides", nargs="*", default=[], metavar="OVERRIDE")
    options = parser.parse_args()
    keep_freed_memory()
    seeds = ",".join(map(str, range(options.seeds)))
    common_overrides = [
        f"replicas.seed=[{seeds}]",
        f"device={options.device}",
        *options.overrides,
    ]
    table = Table(title=f"seconds of whole runs, {options.seeds} seed(s), {options.device}")
    for column in ("run", *COLUMNS):
        table.add_column(column, justify="left" if column == "run" else "right")
    costs: dict[str, list[dict[str, float]]] = {}
    run_costs(common_overrides)  # warms the disk's cache
    for name in options.runs or RUNS:
        overrides, work_name = RUNS[name]
        rounds = range(options.rounds)
        costs[name] = [run_costs([*overrides, *common_overrides]) for _ in rounds]
        table.add_row(name, *row_texts(costs[name], work_name, options.device))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(costs, indent=1) + "\n")


if __name__ == "__main__":
    main()
