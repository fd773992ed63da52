"""`hydra/launcher=submitit_local` and `submitit_slurm`: each job a process, or a job of Slurm's."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from gradalign_cli.composition.launchers.sweep_job import (
    LaunchEnvironment,
    SweepContext,
    SweepJob,
    current_launch_environment,
    run_in_worker,
)
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher
from gradalign_cli.errors import Terminated, UserError
from gradalign_cli.results.sweep_folder import MOST_JOBS
from gradalign_cli.results.terminal import terminal_console

SHARED_OPTIONS = (  # of every queue; the others are of one, whose name submitit wants before them
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)
SECONDS_BETWEEN_LOOKS = {"local": 0.2, "slurm": 5.0}


class RequeuedJob:
    """What submitit calls in a job of its own. When Slurm takes the machine away or the time is
    over, submitit asks for a `checkpoint` and puts the job back into the queue, and its process
    calls this again, on the folder that the first one has left."""

    def __init__(self, context: SweepContext, launch_environment: LaunchEnvironment) -> None:
        self.context, self.launch_environment = context, launch_environment

    def __call__(self, job: SweepJob) -> JobReturn:
        """Run the job."""
        import submitit

        return run_in_worker(
            self.context, self.launch_environment, job, submitit.JobEnvironment().job_id
        )

    def checkpoint(self, job: SweepJob) -> Any:
        """What is to be called when the job comes up again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, job)


class SubmititLauncher(SweepLauncher):
    """The options of hydra-submitit-launcher;  queue: submitit's name of the executor."""

    queue: Literal["local", "slurm"]

    def run(self, jobs: Sequence[SweepJob]) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Submit the jobs, as many at a time as the queue takes, and wait for each."""
        executor, call = self.executor(), RequeuedJob(self.context, current_launch_environment())
        folder = Path(str(self.options["submitit_folder"])).parent
        terminal_console().print(f"what the jobs print is in {folder}", soft_wrap=True)
        waiting, submitted = list(jobs), dict[Any, SweepJob]()
        try:
            while waiting or submitted:
                free = self.most_queued_jobs() - len(submitted)
                first, waiting = waiting[:free], waiting[free:]
                if first:
                    queued = executor.map_array(call, first)
                    submitted |= dict(zip(queued, first, strict=True))
                yield from self.pop_ended_jobs(submitted)
                time.sleep(SECONDS_BETWEEN_LOOKS[self.queue])
        except KeyboardInterrupt as stop:
            if self.queue == "local" or not isinstance(stop, Terminated):
                for job in submitted:
                    job.cancel()
            raise

    def executor(self) -> Any:
        """Submitit's executor with the options."""
        import submitit

        options = {
            name: OmegaConf.to_container(value, resolve=True)
            if OmegaConf.is_config(value)
            else value
            for name, value in self.options.items()
        }
        folder = options.pop("submitit_folder")
        timeouts = options.pop("max_num_timeout", None)
        first = {} if timeouts is None else {f"{self.queue}_max_num_timeout": timeouts}
        try:
            executor = submitit.AutoExecutor(cluster=self.queue, folder=folder, **first)
        except RuntimeError as error:  # this machine is none of Slurm's
            raise UserError(f"`hydra/launcher` cannot submit jobs: {error}") from error
        executor.update_parameters(
            **{
                name if name in SHARED_OPTIONS else f"{self.queue}_{name}": value
                for name, value in options.items()
            }
        )
        return executor

    def pop_ended_jobs(
        self, submitted: dict[Any, SweepJob]
    ) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Take those jobs that have ended out of the submitted ones, each with what it gave."""
        import submitit

        for queued in [queued for queued in submitted if queued.done()]:
            job = submitted.pop(queued)
            try:
                yield job, queued.results()[0]
            except submitit.core.utils.FailedJobError as error:  # as after too many timeouts
                yield job, self.lost_job_return(job, failure_reason(str(error)))
            except submitit.core.utils.UncompletedJobError:
                self.tell_worker_killed(job)

    def most_queued_jobs(self) -> int:
        """How many jobs may be in the queue."""
        return MOST_JOBS


def failure_reason(message: str) -> str:
    """The last line of the traceback in what submitit says of a job that failed."""
    traceback = message.partition("You can check full logs")[0]
    lines = [line for line in traceback.splitlines() if line.strip("- ")]
    return lines[-1] if lines else message


class LocalLauncher(SubmititLauncher):
    """Every job in a process of this machine, one for each core that it may use."""

    queue = "local"

    def most_queued_jobs(self) -> int:
        """How many jobs the cores have room for."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (cores or 1) // int(self.options.get("cpus_per_task") or 1))


class SlurmLauncher(SubmititLauncher):
    """Every job in one of an array of Slurm's."""

    queue = "slurm"
