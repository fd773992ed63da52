"""Many small jobs of one sweep in one process: memory, open files and threads stay flat.

    python scripts/soak.py --jobs 300

Prints what the process has after some of the jobs, and ends with code 1 where its resident memory
grew by more than 5 % after the first 20 jobs, where open files or threads became more, or where a
further job took 0.3 s of CPU or more.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from gradalign_cli.commands import train
from gradalign_cli.composition.hydra_jobs import run_jobs

METHODS = ("agem", "gem", "er", "finetune", "derpp")
WARM_UP, MOST_GROWTH, MOST_SECONDS = 20, 1.05, 0.3
SMALL = ("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]")


class Usage(NamedTuple):
    """What the process has after a job: resident bytes, open files, threads, seconds of CPU."""

    memory: int
    files: int
    threads: int
    seconds: float


USAGES: list[Usage] = []


def usage() -> Usage:
    """What this process has now, by Linux's /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        time.process_time(),
    )


def measured_job(config: DictConfig) -> float:
    """A job of the sweep; afterwards the process is measured."""
    value = train.job(config)
    USAGES.append(usage())
    return value


def main() -> int:
    """Run the jobs and judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=300)
    jobs = parser.parse_args().jobs
    seeds = math.ceil(jobs / len(METHODS))
    swept = (f"method={','.join(METHODS)}", f"replicas.seed=range(0,{seeds})")
    output = sys.stdout
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as sys.stdout:
        outcomes = run_jobs(measured_job, ["-m", *SMALL, *swept, f"hydra.sweep.dir={folder}/sweep"])
    sys.stdout = output
    assert outcomes is not None
    begin, end = USAGES[WARM_UP - 1], USAGES[-1]
    for number in sorted({1, WARM_UP, len(USAGES) // 3, 2 * len(USAGES) // 3, len(USAGES)}):
        now = USAGES[number - 1]
        print(f"after {number} jobs: {now.memory / 2**20:.1f} MiB, {now.files} open files, "
              f"{now.threads} threads, {now.seconds:.1f} s of CPU")  # fmt: skip
    seconds = (end.seconds - begin.seconds) / (len(USAGES) - WARM_UP)
    print(f"memory grew by {100 * (end.memory / begin.memory - 1):.1f} %, "
          f"a further job took {seconds:.3f} s of CPU")  # fmt: skip
    failed = sum(math.isnan(outcome.objective_value) for outcome in outcomes)
    flat = end.files <= begin.files and end.threads <= begin.threads
    grew = end.memory > MOST_GROWTH * begin.memory
    return int(bool(failed) or not flat or grew or seconds >= MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
