"""`hydra/launcher=joblib`: jobs in processes of this machine."""

import os
from collections.abc import Iterator, Sequence

from hydra.core.utils import JobReturn

from gradalign_cli.composition.launchers.parent_watch import end_with_parent
from gradalign_cli.composition.launchers.sweep_job import (
    LaunchEnvironment,
    SweepContext,
    SweepJob,
    current_launch_environment,
    run_in_worker,
)
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher

WHOLE_NUMBERS = ("pre_dispatch", "max_nbytes")  # that may also be expressions


class JoblibLauncher(SweepLauncher):
    """The options of hydra-joblib-launcher, which are those of joblib.Parallel. Every job is a
    batch of its own, so that a killed worker takes no results with it."""

    def run(self, jobs: Sequence[SweepJob]) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Run jobs beside each other. When a worker is killed, joblib ends all workers."""
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import BrokenProcessPool

        options = dict(self.options) | {"backend": "loky", "batch_size": 1}
        for name in WHOLE_NUMBERS:
            if str(options.get(name)).isdigit():
                options[name] = int(options[name])
        parallel = Parallel(**options, return_as="generator_unordered")
        shared = self.context, current_launch_environment(), os.getpid()
        try:
            yield from parallel(delayed(job_and_return)(*shared, job) for job in jobs)
        except BrokenProcessPool:
            return


def job_and_return(
    context: SweepContext,
    launch_environment: LaunchEnvironment,
    launching_process: int,
    job: SweepJob,
) -> tuple[SweepJob, JobReturn]:
    """Run a job in a worker; returns it with what it gave, as jobs do not end in order.

    launching_process: its id. When it is killed, the worker ends too.
    """
    end_with_parent(launching_process)
    return job, run_in_worker(context, launch_environment, job)
