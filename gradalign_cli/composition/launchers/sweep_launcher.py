"""What all launchers share: jobs whose worker was killed start again, and all others go on."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gradalign_cli.composition.launchers.sweep_job import (
    SweepContext,
    SweepJob,
    job_config,
    job_folder_of,
    job_return_hydra_cfg,
)
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.errors import UserError
from gradalign_cli.files.writing import make_folder
from gradalign_cli.results.run_files import SETTINGS_WITHOUT_EFFECT
from gradalign_cli.results.sweep_folder import (
    add_sweep_jobs,
    is_finished,
    read_sweep_jobs,
    record_ended_sweep_jobs,
    write_failure,
)
from gradalign_cli.results.terminal import terminal_console

FRUITLESS_ROUNDS = 3  # in which every worker was killed, until the jobs that are left have failed
KILLED_TOO_OFTEN = (
    f"its worker was killed {FRUITLESS_ROUNDS} times, as the system does where memory runs out"
)
RETURNS: list[JobReturn] = []  # of all jobs that this process launched
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def job_identity(overrides: Sequence[str]) -> str:
    """What tells a job from the others of its sweep, however often and in whatever order it is
    asked for: without settings that leave its results as they are."""
    telling = filter_overrides(list(overrides))
    return " ".join(
        sorted(text for text in telling if override_key(text) not in SETTINGS_WITHOUT_EFFECT)
    )


class SweepLauncher(Launcher):
    """A launcher of Hydra's. Subclasses say in `run` where jobs run.

    options: the entries of `hydra.launcher`, without `_target_`.
    """

    context: SweepContext

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what all jobs share from Hydra."""
        self.context = SweepContext(hydra_context, task_function, config)
        self.folder = Path(str(config.hydra.sweep.dir))
        self.searches = config.hydra.sweeper._target_ != BASIC_SWEEPER

    @abstractmethod
    def run(self, jobs: Sequence[SweepJob]) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Run jobs; yields each with what it gave as soon as it has ended. Those whose worker was
        killed are left out."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; returns what they gave, in their order.

        A job that failed gives NaN to Hydra's own sweeper and an error to one that searches.
        """
        setup_globals()
        hydra_entry = self.context.sweep_config.hydra
        configure_log(hydra_entry.hydra_logging, hydra_entry.verbose)
        jobs = [
            SweepJob(initial_job_idx + i, tuple(texts)) for i, texts in enumerate(job_overrides)
        ]
        make_folder(self.folder)
        earlier_jobs = read_sweep_jobs(self.folder).folder_by_overrides
        add_sweep_jobs(self.folder, [job_identity(job.overrides) for job in jobs])
        returns = self.run_with_retries(jobs)
        ended = {job_identity(job.overrides): returns[job.number] for job in jobs}
        refused = {text for text, job_return in ended.items() if folder_holds_other_run(job_return)}
        ended_folder_by_overrides = {
            text: folder_of(ended[text]) for text in ended if text not in refused
        }
        with suppress(UserError):  # as on a full disk: `status` then counts more than there is
            dropped_jobs = refused - earlier_jobs.keys()
            record_ended_sweep_jobs(self.folder, ended_folder_by_overrides, dropped_jobs)
        configure_log(hydra_entry.hydra_logging, hydra_entry.verbose)
        ordered = [returns[job.number] for job in jobs]
        RETURNS.extend(ordered)
        return [failed_if_nan(job_return) for job_return in ordered] if self.searches else ordered

    def run_with_retries(self, jobs: Sequence[SweepJob]) -> dict[int, JobReturn]:
        """Run jobs, again where a worker was killed; returns what each gave, by its number."""
        returns: dict[int, JobReturn] = {}
        left, fruitless = list(jobs), 0
        while left and fruitless < FRUITLESS_ROUNDS:
            number_before = len(returns)
            for job, job_return in self.run(left):
                returns[job.number] = job_return
            left = [job for job in left if job.number not in returns]
            fruitless = 0 if len(returns) > number_before else fruitless + 1
            if left and fruitless < FRUITLESS_ROUNDS:
                warnings.warn(
                    f"a worker was killed: what has not ended starts again, {jobs_text(left)}",
                    stacklevel=1,
                )
                # one that lets its worker be killed must not keep the others from their turn
                begun = list(takewhile(self.has_begun, left))
                left = left[len(begun) :] + begun
        for job in left:
            returns[job.number] = self.lost_job_return(job)
        return returns

    def tell_worker_killed(self, job: SweepJob) -> None:
        """Say that the worker of a job was killed, when that happens."""
        terminal_console().print(f"job {job.number + 1}: its worker was killed")

    def has_begun(self, job: SweepJob) -> bool:
        """Whether a job's folder is there."""
        return job_folder_of(job_config(self.context, job)).is_dir()

    def lost_job_return(self, job: SweepJob, reason: str = KILLED_TOO_OFTEN) -> JobReturn:
        """What a job gives that could not say itself why it failed; its folder says so too."""
        folder = job_folder_of(job_config(self.context, job))
        make_folder(folder)
        write_failure(folder, reason)
        warnings.warn(f"job {job.number + 1}: failed: {reason}", stacklevel=1)
        return job_return_with_value(job, folder, math.nan)


def folder_holds_other_run(job_return: JobReturn) -> bool:
    """Whether a job failed as its folder holds a finished run of other settings."""
    if job_return.status != JobStatus.COMPLETED:
        return False
    value = job_return._return_value
    has_failed = isinstance(value, float) and math.isnan(value)
    return has_failed and is_finished(Path(folder_of(job_return)))


def folder_of(job_return: JobReturn) -> str:
    """The folder of a job that has ended."""
    entry = job_return.hydra_cfg
    assert entry is not None
    return str(entry.hydra.runtime.output_dir)


def job_return_with_value(job: SweepJob, folder: Path, objective_value: float) -> JobReturn:
    """What Hydra is told of a job that gave a value without being run by Hydra."""
    overrides, entry = filter_overrides(job.overrides), job_return_hydra_cfg(folder)
    return JobReturn(
        overrides, hydra_cfg=entry, status=JobStatus.COMPLETED, _return_value=objective_value
    )


def failed_if_nan(job_return: JobReturn) -> JobReturn:
    """The same, with an error in place of NaN, which no search can learn from."""
    value = job_return._return_value
    if job_return.status != JobStatus.COMPLETED or not math.isnan(value):
        return job_return
    failed = JobReturn(**vars(job_return))
    failed.status, failed.return_value = JobStatus.FAILED, UserError("the job failed")
    return failed


def jobs_text(jobs: Sequence[SweepJob]) -> str:
    """Jobs by their numbers, the first few of them."""
    numbers = ", ".join(str(job.number + 1) for job in jobs[:10])
    return f"job{'' if len(jobs) == 1 else 's'} {numbers}{', ...' if len(jobs) > 10 else ''}"
