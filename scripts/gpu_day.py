"""The first hour on a GPU: check that everything runs there, and measure how fast.

    python scripts/gpu_day.py DEST [--stages 1,2,...] [--minutes 12] [--device cuda] [--small]
    python scripts/gpu_day.py --plan [--minutes 12]

Six stages, in the order of their worth, each with its own share of the minutes, which `--plan`
prints:

1. captured steps of A-GEM on an MLP and on the reduced ResNet18, and of GEM, beside the CPU's;
2. the tests of the engines, and a small run of every method beside the CPU's, those first whose
   capture is most at risk;
3. steps a second beside a bare loop and a captured one (scripts/bench_step.py);
4. whole runs, published beside ours (`gradalign reproduce`);
5. where the time of a step goes: the operations and kernels of the slowest steps, by their time, in
   DEST/profile_WORK.txt;
6. longer tables.

Every job is a process of its own. What it prints goes to DEST/NAME.txt as it comes, and how each
job ended to DEST/summary.json after each, so that nothing is lost when time runs out. `--small`
takes small jobs that a CPU does in three minutes. Stages 4 and 6 need MNIST and CIFAR-100 in the
data folder; a job that fails leaves the others' results. Needs no extra, but for stage 2
pytest-xdist (of the extra `dev`); scripts/pack_gpu_day.py brings it and the datasets to a machine
without a network.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from bench_step import gradalign_round, work_factories
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from gradalign_cli.cli import main as gradalign
from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import Engine
from gradalign_cli.engines.graph import graph
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.numerics.trees import tree_index

ROOT = Path(__file__).resolve().parents[1]
AT_RISK = ("gem", "nash_mtl", "aligned_mtl", "gpm", "trgp", "mer", "cuber", "imtl_g", "logd")
WORKS = ("agem_mlp", "gem_mlp", "agem_resnet")
SMALL_WORKS = ("agem_mlp", "gem_mlp")
CLOSE = 1e-3  # relative difference of parameters after some steps in float32
SMALL_RUN = (
    *("benchmark.first_tasks=3", "benchmark.samples_per_task=120", "metrics.lca_batches=0"),
    *("memory_batch=20", "model.widths=[20]", "alignment.every=5", "threads=1"),
)


class Job(NamedTuple):
    """A command, under the name of the file that keeps what it prints."""

    name: str
    command: tuple[str, ...]


class Stage(NamedTuple):
    """Jobs that share a part of the minutes, in seconds of the default 12 minutes."""

    title: str
    seconds: float
    jobs: tuple[Job, ...]


def stages(device: str, dest: Path, small: bool) -> dict[int, Stage]:
    """The stages, by number."""
    itself, script = (sys.executable, str(Path(__file__))), str(ROOT / "scripts" / "bench_step.py")
    tests = (sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "0")
    engines = "tests/engines/test_captured.py" if small else "tests/engines"
    works = ("agem_mlp",) if small else WORKS
    counts = ("2",) if small else ("10", "100")
    rounds = ("--rounds", "1" if small else "5", "--device", device)
    check = ("--device", device, *(("--small",) if small else ()))
    speed = tuple(
        speed_job(work, count, (sys.executable, script, work, *rounds), dest)
        for work in works
        for count in counts
    )
    tables = (
        ("agem-2019-table4", "Permuted MNIST, A-GEM"),
        ("gem-2017-table3", "* GEM"),
        ("gem-2017-figure1", "MNIST*"),
        ("agem-2019-table4", "Split CIFAR, A-GEM"),
        ("agem-2019-table4", "Split CIFAR, VAN"),
    )
    longer = (
        ("gpm-2021-cifar100", "GPM"),
        ("gem-2017-figure1", "CIFAR-100, GEM"),
        ("agem-2019-table4", "Split CIFAR, GEM"),
    )
    some = tables[:1] if small else tables
    return {
        1: Stage(
            "captured steps", 60, (Job("steps", (*itself, str(dest), "--check", "steps", *check)),)
        ),
        2: Stage(
            "engines and methods",
            120,
            (
                Job("methods", (*itself, str(dest), "--check", "methods", *check)),
                Job("engines", (*tests, engines)),
            ),
        ),
        3: Stage("steps a second", 180, speed),
        4: Stage("whole runs", 240, tuple(table_job(*cell, device, dest, small) for cell in some)),
        5: Stage(
            "profiles", 60, (Job("profiles", (*itself, str(dest), "--check", "profiles", *check)),)
        ),
        6: Stage(
            "longer tables",
            60,
            () if small else tuple(table_job(*cell, device, dest, small) for cell in longer),
        ),
    }


def plan_table(every_stage: dict[int, Stage], minutes: float) -> Table:
    """What each stage runs, and the seconds that it may take of so many minutes."""
    table = Table(title=f"stages of {minutes:g} minutes")
    for column in ("stage", "", "seconds at most", "jobs"):
        table.add_column(column, overflow="fold")
    for number, stage in every_stage.items():
        seconds = f"{stage.seconds * minutes / 12:.0f}"
        table.add_row(str(number), stage.title, seconds, ", ".join(job.name for job in stage.jobs))
    return table


def speed_job(work: str, replicas: str, command: tuple[str, ...], dest: Path) -> Job:
    """Steps a second of one piece of work."""
    name = f"speed_{work}_{replicas}"
    return Job(name, (*command, "--replicas", replicas, "--json", str(dest / f"{name}.json")))


def table_job(table: str, cells: str, device: str, dest: Path, small: bool) -> Job:
    """Some cells of a paper's table, with five seeds."""
    size = ("--quick", "--seeds", "1") if small else ("--seeds", "5")
    command = (sys.executable, "-m", "gradalign_cli.cli", "reproduce", table, f"device={device}")
    name = f"{table}_{''.join(c if c.isalnum() else '_' for c in cells)}"
    return Job(name, (*command, "--cells", cells, *size, "--out", str(dest / "tables")))


def run_stage(stage: Stage, seconds: float, dest: Path) -> list[dict[str, object]]:
    """How each job of a stage ended, within so many seconds for all."""
    end, results = time.monotonic() + seconds, []
    for job in stage.jobs:
        begin = time.monotonic()
        if begin >= end:
            results.append({"job": job.name, "ended": "not started", "seconds": 0.0})
            continue
        with (dest / f"{job.name}.txt").open("w") as file:
            try:
                code = subprocess.run(
                    job.command, stdout=file, stderr=file, cwd=ROOT, timeout=end - begin
                ).returncode
                ended = "ok" if code == 0 else f"failed with code {code}"
            except subprocess.TimeoutExpired:
                ended = "out of time"
        took = round(time.monotonic() - begin, 1)
        results.append({"job": job.name, "ended": ended, "seconds": took})
    return results


def check_steps(device: torch.device, engine: Engine, small: bool) -> bool:
    """Whether captured steps leave the parameters where the CPU's steps leave them."""
    print(f"torch {torch.__version__}, {device}", flush=True)
    agree = True
    for name in SMALL_WORKS if small else WORKS:
        ends = []
        for where, through in ((CPU, eager()), (device, engine)):
            torch.manual_seed(0)
            work = work_factories(where)[name]()._replace(steps=10 if small else 40)
            learner = tree_index(gradalign_round(work, through, 1)(), 0)
            ends.append(learner.params.to(CPU))
        expected, params = ends
        difference = float((params - expected).norm() / expected.norm())
        agree &= difference < CLOSE
        print(f"{name}: parameters differ by {difference:.1e}", flush=True)
    return agree


def write_profiles(device: torch.device, engine: Engine, small: bool, dest: Path) -> bool:
    """Write a table of the operations and kernels of each work's steps, by their time."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    for name in SMALL_WORKS[:1] if small else WORKS:
        work = work_factories(device)[name]()
        work = work._replace(steps=min(work.steps, 20 if small else 100))
        run_round = gradalign_round(work, engine, 1)
        for _ in range(2):  # the second round has nothing left to capture or record
            run_round()
        with profile(activities=activities) as profiler:
            run_round()
            if on_gpu:
                torch.cuda.synchronize()
        table = profiler.key_averages().table(sort_by=order, row_limit=25)
        (dest / f"profile_{name}.txt").write_text(table)
        print(f"{name}: profile_{name}.txt", flush=True)
    return True


def check_methods(device: str, small: bool) -> bool:
    """Whether a small run of every method ends on the device as on the CPU."""
    names = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
    ordered = [*AT_RISK, *(name for name in names if name not in AT_RISK)]
    agree = True
    for name in ordered[:3] if small else ordered:
        results = [
            accuracy(name, where, engine) for where, engine in (("cpu", "eager"), (device, "graph"))
        ]
        same = results[0] == results[1] and results[0].replace(" ", "").isdigit()
        agree &= same
        print(
            f"{name}: {'ok' if same else f'{results[1]} where the CPU has {results[0]}'}",
            flush=True,
        )
    return agree


def accuracy(name: str, device: str, engine: str) -> str:
    """The last row of a small run's accuracy matrix in percent, or what went wrong."""
    said = io.StringIO()
    with TemporaryDirectory() as folder:
        place = f"hydra.run.dir={folder}/run"
        overrides = [*SMALL_RUN, f"method={name}", f"device={device}", f"engine={engine}", place]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code: Any = gradalign(["train", *overrides])
            except SystemExit as refused:  # in a sentence
                code = refused.code
            except Exception as error:  # of the device: the next method is tried all the same
                return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if code:
            return f"failed: {said.getvalue().strip().splitlines()[-1]}"
        last = (Path(folder) / "run" / "accuracy.csv").read_text().splitlines()[-1]
    return " ".join(f"{100 * float(value):.0f}" for value in last.split(",")[2:])


def main() -> int:
    """Run the stages and print how their jobs ended; 1 where one did not end well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dest", type=Path, nargs="?", default=Path("gpu_day"))
    parser.add_argument("--stages", default="1,2,3,4,5,6")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--plan", action="store_true", help="print the stages and their lengths")
    parser.add_argument("--check", choices=("steps", "methods", "profiles"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    dest: Path = options.dest.resolve()
    if options.plan:
        Console().print(plan_table(stages(options.device, dest, options.small), options.minutes))
        return 0
    if options.check:
        device = torch.device(options.device)
        if options.check == "steps":
            return 0 if check_steps(device, graph(device), options.small) else 1
        if options.check == "profiles":
            return 0 if write_profiles(device, graph(device), options.small, dest) else 1
        return 0 if check_methods(options.device, options.small) else 1
    dest.mkdir(parents=True, exist_ok=True)
    table = Table(title=f"on {options.device}")
    for column in ("stage", "job", "ended", "seconds"):
        table.add_column(column)
    summary: list[dict[str, object]] = []
    every_stage = stages(options.device, dest, options.small)
    for number in map(int, options.stages.split(",")):
        stage = every_stage[number]
        results = run_stage(stage, stage.seconds * options.minutes / 12, dest)
        summary += [{"stage": stage.title, **result} for result in results]
        (dest / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        for result in results:
            table.add_row(stage.title, *map(str, result.values()))
    Console().print(table)
    return 0 if all(result["ended"] == "ok" for result in summary) else 1


if __name__ == "__main__":
    sys.exit(main())
