"""`gradalign status SWEEP_DIR`: how far the jobs of a sweep have come, by its folder alone."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console

from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.errors import UserError
from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.results.durations import duration_text
from gradalign_cli.results.sweep_folder import (
    JobState,
    JobStatus,
    job_folders,
    job_status,
    number_of_jobs,
    sweep_seconds_left,
)
from gradalign_cli.results.terminal import terminal_console


def main(arguments: list[str]) -> int:
    """Print how far a sweep has come; returns the exit code, 1 where jobs failed."""
    parser = VerbParser(
        prog="gradalign status", description="How far the jobs of a sweep have come."
    )
    parser.add_argument("folder", metavar="SWEEP_DIR", help="the folder of the sweep")
    folder = Path(parser.parse_args(arguments).folder)
    if not folder.is_dir():
        raise UserError(
            f"`SWEEP_DIR` must be the folder of a sweep, found no folder {str(folder)!r}"
        )
    jobs = number_of_jobs(folder)
    statuses = [job_status(path) for path in job_folders(folder)]
    if jobs is None and not statuses:
        raise UserError(f"`SWEEP_DIR` must be the folder of a sweep, found no job in {folder}")
    print_status(terminal_console(highlight=False), folder, statuses, max(jobs or 0, len(statuses)))
    return int(any(status.state == "failed" for status in statuses))


def print_status(
    console: Console, folder: Path, statuses: Sequence[JobStatus], job_count: int
) -> None:
    """Print the counts, the jobs that run and that failed, and how long it will take;
    job_count: of the sweep."""

    def count(state: JobState) -> int:
        return sum(status.state == state for status in statuses)

    done, running, failed = count("done"), count("running"), count("failed")
    left = job_count - done - running - failed
    stopped = f", {count('stopped')} of them unfinished" if count("stopped") else ""
    line = (
        f"{done} done, {running} running, {failed} failed, {left} left{stopped}; {job_count} jobs"
    )
    console.print(line, soft_wrap=True)
    for status in statuses:
        if status.state in ("running", "failed"):
            note = f": {status.failure_or_owner}" if status.failure_or_owner else ""
            name = status.folder.relative_to(folder)
            console.print(f"{status.state}: {name}{note}", soft_wrap=True)
    seconds = sweep_seconds_left(statuses, job_count)
    if seconds is not None:
        console.print(f"about {duration_text(seconds)} left")
    elif left and not running:
        place = quote(folder_override("hydra.sweep.dir", folder))
        advice = f"nothing runs; the sweep's command with {place} goes on"
        console.print(advice, soft_wrap=True)
