"""`gradalign reproduce TABLE`: run what a table needs and print published beside ours.

Every cell is one `gradalign train` with the seeds as replicas, in a folder named by what it
computes. A run that is finished is not run again, one that was broken off is, so that a table
can be stopped at any moment and continued.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from gradalign_cli.errors import UserError, require
from gradalign_cli.tables.ranks import ranks
from gradalign_cli.tables.results import QUICK, Result, cell_key, gather, merged
from gradalign_cli.tables.table import Cell, Table, load
from gradalign_cli.tables.verdict import comparisons, rows
from gradalign_cli.tables.writing import grid, score, write

STOPPED = 130  # the exit code of what was interrupted


class Request(NamedTuple):
    """What the user asked for. budget: minutes after which no cell is started, 0 for none at all,
    or None;  sources: folders of finished runs to use too;  extra: overrides for every run;  train:
    the command that trains, given overrides."""

    cells: str
    seeds: int
    budget: float | None
    quick: bool
    at_once: int
    sources: tuple[Path, ...]
    extra: tuple[str, ...]
    train: tuple[str, ...]


class Job(NamedTuple):
    """A cell that has still to be run, for the seeds that are missing."""

    cell: Cell
    folder: Path
    seeds: tuple[int, ...]

    def minutes(self) -> float | None:
        """The estimate: minutes a seed took on two CPU cores, where that is known."""
        return None if self.cell.minutes is None else self.cell.minutes * len(self.seeds)


def reproduce(conf: Path, name: str, request: Request, out: Path, console: Console) -> int:
    """Run the missing cells of a table, show it and write it; 1 where a cell failed, 130 where the
    user stopped it."""
    require(request.seeds > 0, "--seeds", "positive", request.seeds)
    require(request.at_once > 0, "--at-once", "positive", request.at_once)
    require(
        request.budget is None or request.budget >= 0, "--budget", "non-negative", request.budget
    )
    table = load(conf, name)
    chosen = tuple(cell for cell in table.cells if fnmatch(cell.name, request.cells))
    labels = ", ".join(cell.name for cell in table.cells)
    require(bool(chosen), "--cells", f"a pattern of one of {labels}", request.cells)
    table = table._replace(cells=chosen)
    runnable = [cell for cell in chosen if cell.needs is None]
    keys = {cell.name: cell_key(conf, cell, request.quick) for cell in runnable}
    folder = out / (name + "-quick" * request.quick)
    sources = (folder / "runs", *request.sources)
    jobs = missing(runnable, keys, gather(sources), request, folder)
    announce(table, jobs, len(runnable), request, console)
    try:
        failed = carry_out(jobs, request, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on with the runs that are missing")
        return STOPPED
    found = gather(sources)
    results = {
        cell.name: merged(found[keys[cell.name]]) for cell in runnable if keys[cell.name] in found
    }
    show(table, {k: v for k, v in results.items() if v}, request, folder, console)
    return 1 if failed else 0


def missing(
    cells: Sequence[Cell],
    keys: dict[str, str],
    found: dict[str, list[Result]],
    request: Request,
    folder: Path,
) -> list[Job]:
    """The runs that are not there yet, each in a folder of its own; a run of an older version may
    lack a number that the paper prints."""
    jobs = []
    for cell in cells:
        there = merged(found.get(keys[cell.name], []))
        seeds_there = {} if there is None else there.seeds
        wanted = set() if request.quick else cell.published.keys()
        have = {seed for seed, own in seeds_there.items() if wanted <= own.keys()}
        seeds = tuple(seed for seed in range(request.seeds) if seed not in have)
        if seeds:
            place = f"{keys[cell.name]}_seeds_{'_'.join(map(str, seeds))}"
            jobs.append(Job(cell, folder / "runs" / place, seeds))
    return jobs


def announce(
    table: Table, jobs: Sequence[Job], runnable: int, request: Request, console: Console
) -> None:
    """Say what will be run and how long it may take."""
    known = [minutes for job in jobs if (minutes := job.minutes()) is not None]
    unknown = len(jobs) - len(known)
    guess = f"about {sum(known):.0f} minutes on two CPU cores" if known else "of unknown length"
    guess += f", {unknown} of them not measured yet" if unknown and known else ""
    console.print(
        f"{table.title}: {len(table.cells)} cells, {runnable} can be run, {len(jobs)} still to run"
        + (f" ({guess})" if jobs and not request.quick else ""),
        soft_wrap=True,
    )


def carry_out(jobs: Sequence[Job], request: Request, console: Console) -> bool:
    """Run the jobs, `at_once` beside each other; whether one failed. The others go on.

    The runs end with this process, see leash.py: one that went on would meet its successor in the
    same folder.
    """
    begin, stopped = time.monotonic(), threading.Event()
    leash, held = os.pipe()
    environment = divided(os.environ, min(request.at_once, len(jobs)))

    def one(job: Job) -> bool:
        spent = (time.monotonic() - begin) / 60
        if request.budget is not None and spent + (job.minutes() or 0) > request.budget:
            console.print(f"{job.cell.name}: not started, the budget of minutes is spent")
            return True
        console.print(f"{job.cell.name}: running", soft_wrap=True)
        done = subprocess.run(
            [*request.train, *arguments(job, request)],
            stdin=leash,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and not stopped.is_set():
            console.print(f"{job.cell.name}: failed: {reason(done.stderr)}", soft_wrap=True)
        return done.returncode == 0

    with ThreadPoolExecutor(request.at_once) as pool:
        try:
            return not all(list(pool.map(one, jobs)))
        except KeyboardInterrupt:
            stopped.set()
            raise
        finally:
            os.close(held)
            os.close(leash)


def reason(said: str) -> str:
    """Our own sentence in what a run wrote to stderr, which a launcher adds to; else the last."""
    lines = said.strip().splitlines() or ["no message"]
    return ([line for line in lines if line.startswith("gradalign: ")] or lines)[-1]


def divided(environment: Mapping[str, str], parts: int) -> dict[str, str]:
    """The environment of runs beside each other, which divide the cores where nothing is said: more
    threads than cores wait for each other."""
    share = str(max(1, (os.cpu_count() or 1) // max(1, parts)))
    return ({"OMP_NUM_THREADS": share} if parts > 1 else {}) | dict(environment)


def arguments(job: Job, request: Request) -> list[str]:
    """The overrides of a job's `gradalign train`; through a launcher it is a sweep of one run."""
    seeds = f"replicas.seed=[{','.join(map(str, job.seeds))}]"
    found = [*job.cell.overrides, *QUICK * request.quick, seeds, *request.extra]
    if any(override.startswith("hydra/launcher=") for override in request.extra):
        place = [f"hydra.sweep.dir={job.folder.parent}", f"hydra.sweep.subdir={job.folder.name}"]
        return ["-m", *found, *place]
    return [*found, f"hydra.run.dir={job.folder}"]


def show(
    table: Table, results: dict[str, Result], request: Request, folder: Path, console: Console
) -> None:
    """Print the table and write it in every form."""
    made = [
        row for cell in table.cells for row in rows(cell, results.get(cell.name), request.quick)
    ]
    as_data = {name: result._asdict() for name, result in results.items()}
    if request.quick:
        table = table._replace(title=f"{table.title}: a quick run, not the paper's setting")
    compared = [] if request.quick else comparisons(results, "ACC")
    ranked = None if request.quick else ranks(table, results, "ACC")
    write(table, made, compared, ranked, as_data, folder)
    console.print(grid(table, made))
    console.print(score(made) + (" (a quick run is not judged)" if request.quick else ""))
    console.print(f"written to {folder}", soft_wrap=True)


def check_extra(extra: Sequence[str]) -> tuple[str, ...]:
    """Overrides for every run; only those that leave the results as they are."""
    for override in extra:
        allowed = ("hydra/launcher=", "hydra.launcher.", "device=", "engine=", "threads=")
        if not override.startswith((*allowed, "data_dir=", "memory_budget=")):
            raise UserError(
                f"`{override}` would change what the table's runs compute; hydra/launcher, device, "
                "engine, threads, data_dir and memory_budget can be given"
            )
    return tuple(extra)
