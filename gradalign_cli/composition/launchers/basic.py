"""The launcher of a sweep that names none: one job after the other, in this process."""

import gc
from collections.abc import Iterator, Sequence

from hydra.core.utils import JobReturn

from gradalign_cli.composition.launchers.sweep_job import SweepJob, run_sweep_job
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher


class BasicLauncher(SweepLauncher):
    """One job after the other, in this process."""

    def run(self, jobs: Sequence[SweepJob]) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Run jobs in order."""
        gc.freeze()  # else a collection looks at all of PyTorch's modules, in every tenth job
        try:
            for job in jobs:
                yield job, run_sweep_job(self.context, job)
        finally:
            gc.unfreeze()
