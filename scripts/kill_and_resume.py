"""Does a run that is killed at random moments and resumed end as one that was not, byte for byte?

    python scripts/kill_and_resume.py --kills 200

Draws methods, buffers, engines and streams. Each run is trained once without an interruption and
without checkpoints, and once with a checkpoint after every chunk of steps, where it is killed by
SIGKILL at random moments, many of them inside the write of a checkpoint. Then every csv and json is
compared, times aside. Runs are small and in forks of this process; Split-Digits is their data.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from forked_commands import run_and_exit, warm_up

from gradalign_cli.composition.paths import CONF
from gradalign_cli.engines import recorded
from gradalign_cli.files.checkpoint_files import checkpoint_files

ENGINES = ("eager", "graph", "vmap", "streams")
STREAMS: dict[str, tuple[str, ...]] = {
    "sharp": (),
    "class": ("benchmark.scenario=class",),
    "blurry": ("stream=blurry",),
    "task_free": ("stream=task_free", "benchmark.scenario=class"),
    "plateau": ("schedule=plateau", "schedule.patience=1", "schedule.least_lr=0.05", "passes=3"),
    "tests between steps": ("metrics.continual_every=3", "metrics.continual_samples=20"),
    "two replicas": ("replicas.seed=[0,1]",),
    "rounds": ("replicas.seed=[0,1]", "memory_budget=1e-9"),
}
SMALL = (
    *("benchmark.first_tasks=3", "benchmark.samples_per_task=40", "batch_size=2", "threads=1"),
    *("model.widths=[16]", "memory_batch=10", "metrics.lca_batches=12", "alignment.every=3"),
    "resume=auto",
)
STEPS_BEFORE_RECORDING = 12  # so that these short tasks have recorded steps
TIMES = (
    *("setup_seconds", "training_seconds", "evaluation_seconds", "steps_per_second"),
    *("peak_memory_bytes",),
)


WAIT_FOR_WRITE = 30.0  # seconds


class Ending(NamedTuple):
    """How a fork ended: its exit code, and its seconds."""

    code: int
    seconds: float


class Count(NamedTuple):
    """What was tried: runs, kills, and how many of these came inside the write of a checkpoint."""

    runs: int = 0
    kills: int = 0
    in_write: int = 0


def options(group: str) -> list[str]:
    """The options of a group of configs."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def drawn_case(source: random.Random) -> dict[str, str]:
    """A method, buffer, engine and stream."""
    return {
        "method": source.choice(options("method")),
        "buffer": source.choice(options("buffer")),
        "engine": source.choice(ENGINES),
        "stream": source.choice(list(STREAMS)),
    }


def overrides(case: dict[str, str]) -> list[str]:
    """The overrides of a case."""
    chosen = [f"{group}={case[group]}" for group in ("method", "buffer", "engine")]
    return [
        *chosen,
        "buffer.capacity=12",
        "buffer.capacity_per=total",
        *SMALL,
        *STREAMS[case["stream"]],
    ]


def run_fork(
    arguments: Sequence[str],
    folder: Path,
    kill_after: float | None = None,
    in_write_of: Path | None = None,
) -> Ending:
    """Run `gradalign ARGUMENTS` in a fork, which is killed after so many seconds;  in_write_of: not
    before the next checkpoint is being written to this folder."""
    begin = time.perf_counter()
    outputs = [folder / "stdout", folder / "stderr"]
    child = os.fork()
    if child == 0:
        run_and_exit(arguments, folder, outputs)
    if kill_after is not None:
        time.sleep(kill_after)
        if in_write_of is not None:
            wait_for_write(in_write_of, begin + WAIT_FOR_WRITE)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return Ending(os.waitstatus_to_exitcode(status), time.perf_counter() - begin)


def wait_for_write(folder: Path, until: float) -> None:
    """Wait for the write of a checkpoint in a folder."""
    while time.perf_counter() < until and not (folder / "accuracy.csv").exists():
        if any(folder.glob("checkpoint.*.partial")):
            return


def results(folder: Path) -> dict[str, Any]:
    """The content of every csv and json of a run, without times."""
    texts: dict[str, Any] = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    texts.pop("accuracy.partial.csv", None)  # stays where the kill came after the last result
    texts["metrics.json"] = (folder / "metrics.json").read_bytes()
    record = json.loads((folder / "record.json").read_text())
    record["config"].pop("checkpoint")
    entries = {f"record.json {name}": record[name] for name in record if name not in TIMES}
    return texts | entries


def try_case(
    case: dict[str, str], kills: int, source: random.Random, count: Count
) -> tuple[Count, str | None]:
    """Kill and resume one run; the new count, and what went wrong. A combination that is refused
    counts as nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, parts = folder / "whole", folder / "parts"
        train = ["train", *overrides(case)]
        plain = run_fork([*train, f"hydra.run.dir={whole}", "checkpoint.minutes=null"], folder)
        if plain.code == 2:
            return count, None
        if plain.code:
            return count, f"the uninterrupted run ended with {plain.code}"
        again = [*train, f"hydra.run.dir={parts}", "checkpoint.minutes=1e-9"]
        for _ in range(kills):
            place = parts if source.random() < 0.3 else None
            seconds = source.uniform(0.2, 1.2) * plain.seconds
            run_fork(command(parts, again, source), folder, seconds, place)
            in_write = any(parts.glob("checkpoint.*.partial"))
            count = Count(count.runs, count.kills + 1, count.in_write + in_write)
            if (parts / "accuracy.csv").exists():
                break
        if not (parts / "accuracy.csv").exists():
            ending = run_fork(command(parts, again, source), folder)
            if ending.code:
                return count, (folder / "stderr").read_text()[-500:]
        before, after = results(whole), results(parts)
        changed = [n for n in before | after if before.get(n) != after.get(n)]
        problem = f"{', '.join(changed)} differ" if changed else None
        return count._replace(runs=count.runs + 1), problem


def command(folder: Path, again: list[str], source: random.Random) -> list[str]:
    """How the run goes on: by the same command or, where it has a checkpoint, perhaps by its
    folder alone."""
    finished = (folder / "accuracy.csv").exists()
    has_checkpoint = bool(checkpoint_files(folder)) and not finished
    return ["resume", str(folder)] if has_checkpoint and source.random() < 0.5 else again


def main() -> int:
    """Kill and resume; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kills-a-run", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no run after so many")
    chosen = parser.parse_args()
    source, count, problems = random.Random(chosen.seed), Count(), 0
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    warm_up()
    for module in ("gradalign_cli.commands.resume", "torch.fx.experimental.proxy_tensor"):
        import_module(module)
    recorded.MIN_CALLS_TO_RECORD = STEPS_BEFORE_RECORDING
    begin, cases = time.perf_counter(), set()
    while count.kills < chosen.kills and time.perf_counter() - begin < chosen.seconds:
        case, runs = drawn_case(source), count.runs
        count, problem = try_case(case, chosen.kills_a_run, source, count)
        if problem:
            problems += 1
            print(f"{' '.join(case.values())}: {problem}", flush=True)
        if count.runs > runs:
            cases.add((case["method"], case["buffer"]))
    print(
        f"{count.kills} kills, {count.in_write} of them inside a checkpoint's write, in "
        f"{count.runs} runs of {len(cases)} pairs of method and buffer; {problems} differ; "
        f"{time.perf_counter() - begin:.0f} s"
    )
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
