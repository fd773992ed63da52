"""`hydra/launcher=ray`: each job a task of a Ray cluster, or of this machine."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn

from gradalign_cli.composition.launchers.sweep_job import (
    SweepJob,
    current_launch_environment,
    run_in_worker,
)
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher
from gradalign_cli.results.terminal import terminal_console


class RayLauncher(SweepLauncher):
    """The options are those of `RayConfig`."""

    def run(self, jobs: Sequence[SweepJob]) -> Iterator[tuple[SweepJob, JobReturn]]:
        """Run jobs as tasks of Ray."""
        ray = self.connected_ray()
        resources = ray.cluster_resources()
        gpus = self.options["gpus_per_job"]
        gpus = float(resources.get("GPU", 0) > 0) if gpus is None else gpus
        task = ray.remote(run_in_worker).options(
            num_cpus=self.options["cpus_per_job"],
            num_gpus=gpus,
            max_retries=0,  # we start jobs again ourselves, and say so
            name="gradalign",
        )
        context = ray.put(self.context)
        launch_environment = ray.put(current_launch_environment())
        left = {task.remote(context, launch_environment, job): job for job in jobs}
        try:
            while left:
                (ended,), _ = ray.wait(list(left), num_returns=1)
                job = left.pop(ended)
                try:
                    yield job, ray.get(ended)
                except ray.exceptions.RayTaskError:
                    raise
                except ray.exceptions.RayError:
                    self.tell_worker_killed(job)  # or the whole machine is gone
        finally:
            for unfinished in left:
                ray.cancel(unfinished, force=True)

    def connected_ray(self) -> Any:
        """Ray, with a connection to a cluster. Without an address, one starts on this machine and
        ends with this process."""
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # each job says what it has to say
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if not ray.is_initialized():
            address = self.options["address"] or os.environ.get("RAY_ADDRESS")
            local = {"num_cpus": self.options["workers"], "include_dashboard": False}
            ray.init(address=address, **({} if address else local))
            nodes = [node for node in ray.nodes() if node["Alive"]]
            machines = f"{len(nodes)} machine{'s' if len(nodes) > 1 else ''}"
            terminal_console().print(f"jobs run on {machines} of Ray's")
        return ray
