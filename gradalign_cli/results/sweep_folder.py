"""The folder of a sweep: which jobs it has, and how far they have come."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, NamedTuple

from gradalign_cli.errors import UserError
from gradalign_cli.files.locking import LOCK_NAME, lock_owner
from gradalign_cli.files.reading import read_bounded, read_json
from gradalign_cli.files.writing import write_atomically
from gradalign_cli.results.final_files import FAILURE_FILE, FINAL_FILES

SWEEP_FILE = "sweep.json"
MOST_JOBS = 10_000
LARGEST_SWEEP_FILE = 2**25  # bytes
LARGEST_RECORD = 2**23  # bytes of a run's record.json
LARGEST_FAILURE = 2**16  # bytes of a job's failure.txt
DEEPEST = 3  # folders below that of the sweep, where `hydra.sweep.subdir` has slashes
TIMES = ("setup_seconds", "training_seconds", "evaluation_seconds")
TIMED_JOBS = 100  # whose records are read for a forecast

JobState = Literal["done", "running", "failed", "stopped"]


class JobStatus(NamedTuple):
    """folder: of the job;  state: `stopped` where its process ended before it did;
    failure_or_owner: why it failed, or who runs it."""

    folder: Path
    state: JobState
    failure_or_owner: str = ""


class SweepJobs(NamedTuple):
    """The content of `sweep.json`.

    folder_by_overrides: of each job, by its overrides as one text, its folder in that of the sweep,
    None until it has ended;  total: how many jobs a search will have, None where that is not told.
    """

    folder_by_overrides: dict[str, str | None]
    total: int | None


def add_sweep_jobs(
    sweep_folder: Path, job_overrides: Sequence[str], new_total: int | None = None
) -> None:
    """Add jobs to those that the folder of a sweep tells of.

    job_overrides: of each job, as one text;  new_total: how many a search will have.
    """
    folder_by_overrides, total = read_sweep_jobs(sweep_folder)
    jobs = dict.fromkeys([*folder_by_overrides, *job_overrides]) | folder_by_overrides
    write_sweep_jobs(sweep_folder, SweepJobs(jobs, total if new_total is None else new_total))


def record_ended_sweep_jobs(
    sweep_folder: Path, ended_folder_by_overrides: Mapping[str, str], dropped_jobs: AbstractSet[str]
) -> None:
    """Let the folder of a sweep tell no longer of jobs whose folders others have taken over.

    ended_folder_by_overrides: the paths of jobs that have ended, by their overrides;  dropped_jobs:
    others that it shall not tell of.
    """
    folder_by_overrides, total = read_sweep_jobs(sweep_folder)
    ended = {
        job: os.path.relpath(folder, sweep_folder)
        for job, folder in ended_folder_by_overrides.items()
    }
    taken = set(ended.values())
    jobs = {
        job: folder
        for job, folder in folder_by_overrides.items()
        if job not in dropped_jobs and folder not in taken
    }
    write_sweep_jobs(sweep_folder, SweepJobs({**jobs, **ended}, total))


def write_sweep_jobs(sweep_folder: Path, sweep_jobs: SweepJobs) -> None:
    """Write `sweep.json`."""
    content = {"jobs": sweep_jobs.folder_by_overrides, "jobs_in_all": sweep_jobs.total}
    write_atomically(sweep_folder / SWEEP_FILE, json.dumps(content, indent=1) + "\n")


def read_sweep_jobs(sweep_folder: Path) -> SweepJobs:
    """The content of `sweep.json`, without jobs where there is none. Raises UserError where it is
    not that of a sweep."""
    path = sweep_folder / SWEEP_FILE
    if not os.path.lexists(path):
        return SweepJobs({}, None)
    content = read_json(path, LARGEST_SWEEP_FILE)
    jobs = content.get("jobs") if isinstance(content, dict) else None
    if isinstance(jobs, list) and all(isinstance(text, str) for text in jobs):
        jobs = dict.fromkeys(jobs)  # version 0.2.0 told of no folders
    if not isinstance(jobs, dict) or not all(isinstance(f, str | None) for f in jobs.values()):
        raise UserError(f"{path} must list the jobs of a sweep")
    total = content.get("jobs_in_all")
    if total is not None and not (isinstance(total, int) and 0 <= total <= MOST_JOBS):
        raise UserError(f"{path} must have at most {MOST_JOBS} jobs, found {total!r}")
    return SweepJobs(jobs, total)


def number_of_jobs(sweep_folder: Path) -> int | None:
    """How many jobs a sweep has, None where its folder does not tell."""
    folder_by_overrides, total = read_sweep_jobs(sweep_folder)
    return len(folder_by_overrides) or None if total is None else total


def write_failure(job_folder: Path, reason: str) -> None:
    """Say in the folder of a job why it failed, unless another process has the folder now or it
    holds a finished run."""
    if lock_owner(job_folder) is None and not is_finished(job_folder):
        write_atomically(job_folder / FAILURE_FILE, f"{reason}\n")


def failure_reason(job_folder: Path) -> str:
    """Why a job failed, by its folder, in one line; empty where it does not tell."""
    try:
        text = read_bounded(job_folder / FAILURE_FILE, LARGEST_FAILURE).decode(errors="replace")
    except UserError:
        return ""
    lines = text.strip().splitlines() or [""]
    return "".join(letter for letter in lines[-1] if letter.isprintable())


def is_finished(run_folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return all((run_folder / name).is_file() for name in FINAL_FILES)


def job_folders(sweep_folder: Path, max_depth: int = DEEPEST) -> Iterator[Path]:
    """The folders of jobs that have begun, by name; at most as many as a sweep may have jobs."""
    entries = sorted(entry.path for entry in os.scandir(sweep_folder) if entry.is_dir())
    for path in map(Path, entries[:MOST_JOBS]):
        if path.name.startswith("."):
            continue
        signs = (*FINAL_FILES, FAILURE_FILE, LOCK_NAME, "config.yaml", "alignment.csv")
        if any((path / sign).is_file() for sign in signs):
            yield path
        elif max_depth > 1:
            yield from job_folders(path, max_depth - 1)


def job_status(job_folder: Path) -> JobStatus:
    """How far the job of a folder has come."""
    if owner := lock_owner(job_folder):
        return JobStatus(job_folder, "running", owner)
    if is_finished(job_folder):
        return JobStatus(job_folder, "done")
    if (job_folder / FAILURE_FILE).is_file():
        return JobStatus(job_folder, "failed", failure_reason(job_folder))
    return JobStatus(job_folder, "stopped")


def mean_job_seconds(finished_folders: Sequence[Path]) -> float | None:
    """How long finished jobs took on average; None where no record tells."""
    seconds = []
    for folder in finished_folders[:TIMED_JOBS]:
        try:
            record = read_json(folder / "record.json", LARGEST_RECORD)
        except UserError:
            continue
        times = [record.get(name) if isinstance(record, dict) else None for name in TIMES]
        numbers = [time for time in times if isinstance(time, int | float) and 0 <= time < 1e9]
        if len(numbers) == len(TIMES):
            seconds.append(sum(numbers))
    return sum(seconds) / len(seconds) if seconds else None


def sweep_seconds_left(statuses: Sequence[JobStatus], total_jobs: int) -> float | None:
    """How long a sweep will go on if as many jobs run at a time as now, None where that is not
    known;  total_jobs: of the sweep. Half of each running job is taken to be done."""
    running = sum(status.state == "running" for status in statuses)
    ended = sum(status.state in ("done", "failed") for status in statuses)
    mean = mean_job_seconds([status.folder for status in statuses if status.state == "done"])
    if mean is None or running == 0:
        return None
    return mean * max(total_jobs - ended - running / 2, running / 2) / running
