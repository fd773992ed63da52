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


def add_sweep_jobs(
    sweep_folder: Path, job_overrides: Sequence[str], new_total_jobs: int | None = None
) -> None:
    """Add jobs to those that the folder of a sweep tells of.

    job_overrides: of each job, as one text;  new_total_jobs: that a search will have.
    """
    content = read_sweep_file(sweep_folder)
    jobs = list(dict.fromkeys([*sweep_job_overrides(sweep_folder), *job_overrides]))
    in_all = content.get("jobs_in_all") if new_total_jobs is None else new_total_jobs
    write_sweep_file(sweep_folder, {**content, "jobs": jobs, "jobs_in_all": in_all})


def settle_sweep_jobs(
    sweep_folder: Path, folder_of_job: Mapping[str, str], dropped_jobs: AbstractSet[str]
) -> None:
    """Let the folder of a sweep tell no longer of jobs whose folders others have taken over.

    folder_of_job: the paths of jobs that have ended, by their overrides;  dropped_jobs: others that
    it shall not tell of.
    """
    content = read_sweep_file(sweep_folder)
    earlier = content.get("folder_of_job")
    earlier_folders = earlier if isinstance(earlier, dict) else {}
    taken = [os.path.relpath(folder, sweep_folder) for folder in folder_of_job.values()]
    kept = {job: folder for job, folder in earlier_folders.items() if folder not in set(taken)}
    replaced = {job for job in earlier_folders if job not in kept and job not in folder_of_job}
    jobs = [
        job
        for job in sweep_job_overrides(sweep_folder)
        if job not in replaced and job not in dropped_jobs
    ]
    folders = {**kept, **dict(zip(folder_of_job, taken, strict=True))}
    write_sweep_file(sweep_folder, {**content, "jobs": jobs, "folder_of_job": folders})


def write_sweep_file(sweep_folder: Path, content: Mapping[str, object]) -> None:
    """Write `sweep.json`."""
    write_atomically(sweep_folder / SWEEP_FILE, json.dumps(content, indent=1) + "\n")


def read_sweep_file(sweep_folder: Path) -> dict[str, object]:
    """The content of `sweep.json`, empty where there is none.

    Raises UserError where it is not that of a sweep.
    """
    path = sweep_folder / SWEEP_FILE
    if not os.path.lexists(path):
        return {}
    content = read_json(path, LARGEST_SWEEP_FILE)
    jobs = content.get("jobs") if isinstance(content, dict) else None
    if not isinstance(jobs, list) or not all(isinstance(text, str) for text in jobs):
        raise UserError(f"{path} must list the jobs of a sweep")
    in_all = content.get("jobs_in_all")
    folders = content.get("folder_of_job", {})
    if not isinstance(folders, dict) or not all(isinstance(f, str) for f in folders.values()):
        raise UserError(f"{path} must have the folders of jobs by their overrides")
    if in_all is not None and not (isinstance(in_all, int) and 0 <= in_all <= MOST_JOBS):
        raise UserError(f"{path} must have at most {MOST_JOBS} jobs, found {in_all!r}")
    return {str(name): value for name, value in content.items()}


def sweep_job_overrides(sweep_folder: Path) -> list[str]:
    """The overrides of each job that was ever launched in the folder of a sweep."""
    jobs = read_sweep_file(sweep_folder).get("jobs", [])
    assert isinstance(jobs, list)
    return jobs


def number_of_jobs(sweep_folder: Path) -> int | None:
    """How many jobs a sweep has, None where its folder does not tell."""
    content = read_sweep_file(sweep_folder)
    jobs, in_all = content.get("jobs"), content.get("jobs_in_all")
    noted = len(jobs) if isinstance(jobs, list) else None
    return in_all if isinstance(in_all, int) else noted


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
