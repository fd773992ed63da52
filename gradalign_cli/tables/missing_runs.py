"""The runs that the cells of a table still need, each a `gradalign train` of its own.

The seeds of a run are its replicas, and its folder is named by what the cell computes, so that a
finished run is not repeated.
"""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.files.locking import lock_owner
from gradalign_cli.tables.request import Request
from gradalign_cli.tables.results import (
    QUICK_OVERRIDES,
    Result,
    merged_result,
)
from gradalign_cli.tables.run_lines import RunLines
from gradalign_cli.tables.set_aside import set_finished_run_aside
from gradalign_cli.tables.table import Cell

LONGEST_SEEDS = 100  # letters of the seeds in a folder's name


class MissingRun(NamedTuple):
    """A run that a cell still needs: its folder, and the seeds that no finished run has."""

    cell: Cell
    folder: Path
    seeds: tuple[int, ...]

    def estimated_minutes(self) -> float | None:
        """Minutes on two CPU cores, None where the cell was not measured."""
        return (
            None
            if self.cell.minutes_per_seed is None
            else self.cell.minutes_per_seed * len(self.seeds)
        )


def missing_runs(
    cells: Sequence[Cell],
    key_of_cell: dict[str, str],
    results_of_key: dict[str, list[Result]],
    request: Request,
    table_folder: Path,
) -> list[MissingRun]:
    """The runs that cells still need, each with a folder of its own in the table's folder.

    key_of_cell: by the cell's name;  results_of_key: of finished runs.
    """
    runs = []
    for cell in cells:
        finished = finished_seeds(cell, results_of_key.get(key_of_cell[cell.name], []), request)
        seeds = tuple(seed for seed in range(request.seed_count) if seed not in finished)
        if seeds:
            folder = table_folder / "runs" / run_name(key_of_cell[cell.name], seeds)
            runs.append(MissingRun(cell, folder, seeds))
    return runs


def run_name(key: str, seeds: Sequence[int]) -> str:
    """The name of a run's folder; a hash of the seeds stands for many, as a name has its limits."""
    text = "_".join(map(str, seeds))
    if len(text) > LONGEST_SEEDS:
        text = f"{len(seeds)}_{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return f"{key}_seeds_{text}"


def finished_seeds(cell: Cell, results: Sequence[Result], request: Request) -> set[int]:
    """The seeds of a cell that need no run. A seed whose run lacks a metric that the paper prints,
    as runs of earlier versions may, needs one. Quick runs may lack metrics.

    results: of the cell's finished runs.
    """
    result = merged_result(results)
    needed_metrics = set() if request.quick else cell.published.keys()
    metrics_of_seed = {} if result is None else result.seeds
    return {seed for seed, metrics in metrics_of_seed.items() if needed_metrics <= metrics.keys()}


def train_missing_any_failed(
    runs: Sequence[MissingRun],
    is_finished_by_another: Callable[[MissingRun], bool],
    request: Request,
    console: Console,
) -> bool:
    """Train the runs, `request.parallel_runs` at a time; returns whether one failed. A failure does
    not stop the others.

    is_finished_by_another: whether a run that was missing is there now, when its turn comes.

    The runs end with this process, see leash.py: a run that went on would write to the same folder
    as the run that replaces it.
    """
    if request.budget_minutes == 0:
        return False
    begin, interrupted = time.monotonic(), threading.Event()
    lines = RunLines(console)
    read_end, write_end = os.pipe()
    environment = run_environment(os.environ, min(request.parallel_runs, len(runs)))

    def train_run(run: MissingRun) -> bool:
        """Whether the run did not fail; one that need not or may not start did not."""
        reason = reason_of_others(run, is_finished_by_another)
        if request.budget_minutes is not None and not reason:
            minutes_left = request.budget_minutes - (time.monotonic() - begin) / 60
            reason = reason_of_budget(run, minutes_left, request.quick)
        if reason:
            console.print(f"{run.cell.name}: {reason}", soft_wrap=True)
            return True
        set_finished_run_aside(run.folder)
        lines.begin(run.cell.name, None if request.quick else run.estimated_minutes())
        process = subprocess.run(
            [*request.train_command, *train_arguments(run, request)],
            stdin=read_end,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        failure = reason = None
        if process.returncode:
            failure = failure_message(process.stderr)
            reason = reason_of_others(run, is_finished_by_another)
        if not interrupted.is_set():
            lines.end(run.cell.name, reason or (failure and f"failed: {failure}"))
        return failure is None or reason is not None

    with lines, ThreadPoolExecutor(request.parallel_runs) as pool:
        try:
            return not all(list(pool.map(train_run, runs)))
        except KeyboardInterrupt:
            interrupted.set()
            raise
        finally:
            os.close(write_end)
            os.close(read_end)


def reason_of_others(
    run: MissingRun, is_finished_by_another: Callable[[MissingRun], bool]
) -> str | None:
    """Why another command's run makes this one needless, None where there is none."""
    if is_finished_by_another(run):
        return "was finished meanwhile"
    if owner := lock_owner(run.folder):
        return f"not started, as {owner} trains it; the same command takes its numbers later"
    return None


def reason_of_budget(run: MissingRun, minutes_left: float, quick: bool) -> str | None:
    """Why a run is not started within a budget, None where it may be. The length of a quick run is
    not known, and short."""
    minutes = 0 if quick else run.estimated_minutes()
    if minutes is None:
        return "not started within a budget, as it is not known how long it takes"
    if minutes > minutes_left:
        left = max(0, minutes_left)
        return f"not started, it would end after the budget ({left:.1f} minutes are left)"
    return None


def train_arguments(run: MissingRun, request: Request) -> list[str]:
    """The arguments of `gradalign train` for a run. Hydra starts a launcher for sweeps alone, so
    with a launcher the run is a sweep of one."""
    quick = QUICK_OVERRIDES * request.quick
    seeds = f"replicas.seed=[{','.join(map(str, run.seeds))}]"
    # an unfinished run goes on; one that another process finishes from now on stays
    overrides = [*run.cell.overrides, *quick, seeds, *request.overrides]
    overrides += ["overwrite=false", "resume=auto", "save=none"]
    if request.names_launcher():
        folder = [folder_override("hydra.sweep.dir", run.folder.parent)]
        folder.append(f"hydra.sweep.subdir={run.folder.name}")
        return ["-m", *overrides, *folder]
    return [*overrides, folder_override("hydra.run.dir", run.folder)]


def run_environment(environment: Mapping[str, str], parallel_runs: int) -> dict[str, str]:
    """The environment of each of several runs at a time: their threads share the CPU cores, unless
    the environment sets OMP_NUM_THREADS. More threads than cores would wait for each other."""
    threads = str(max(1, (os.cpu_count() or 1) // max(1, parallel_runs)))
    return ({"OMP_NUM_THREADS": threads} if parallel_runs > 1 else {}) | dict(environment)


def failure_message(stderr: str) -> str:
    """The last line of stderr that is gradalign's own, or else the last line: a launcher adds lines
    after it."""
    lines = stderr.strip().splitlines() or ["no message"]
    return ([line for line in lines if line.startswith("gradalign: ")] or lines)[-1]
