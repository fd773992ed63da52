"""One job of a sweep, run in this process or in that of a launcher's worker."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from gradalign_cli.composition.config_sources import bound_config_sources
from gradalign_cli.composition.hydra_versions import set_version_base
from gradalign_cli.composition.launchers.ray_config import offer_ray


class SweepJob(NamedTuple):
    """number: from 0, in the order of the sweep;  overrides: those of this job, as Hydra wants
    them."""

    number: int
    overrides: tuple[str, ...]


class SweepContext(NamedTuple):
    """What all jobs of a sweep share. It can be pickled.

    task_function: called with a job's config;  sweep_config: before the overrides of a job.
    """

    hydra_context: HydraContext
    task_function: TaskFunction
    sweep_config: DictConfig


class LaunchEnvironment(NamedTuple):
    """What a worker needs to know of the process that launches.

    variables: those of its environment that workers need.
    """

    working_folder: Path
    variables: Mapping[str, str]


def current_launch_environment() -> LaunchEnvironment:
    """The environment of this process, for its workers."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("GRADALIGN_", "HYDRA_"))
    }
    return LaunchEnvironment(Path.cwd(), variables)


def job_config(context: SweepContext, job: SweepJob, job_id: str | None = None) -> DictConfig:
    """The config of a job, with Hydra's entry;  job_id: of a queue."""
    loader = context.hydra_context.config_loader
    config = loader.load_sweep_config(context.sweep_config, list(job.overrides))
    with open_dict(config):
        config.hydra.job.id = job_id or str(job.number)
        config.hydra.job.num = job.number
    return config


def job_folder_of(config: DictConfig) -> Path:
    """The folder of the job that a config, with Hydra's entry, describes."""
    HydraConfig.instance().set_config(config)
    folder, name = (OmegaConf.select(config, f"hydra.sweep.{key}") for key in ("dir", "subdir"))
    return Path(str(folder)) / str(name)


def run_sweep_job(context: SweepContext, job: SweepJob, job_id: str | None = None) -> JobReturn:
    """Run a job in this process. What the task function raises is in what it returns."""
    config = job_config(context, job, job_id)
    job_return = run_job(
        hydra_context=context.hydra_context,
        task_function=context.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    # a sweep keeps what all its jobs give, and a job's configs are a fifth of a megabyte
    job_return.cfg = None
    job_return.hydra_cfg = job_return_hydra_cfg(Path(config.hydra.runtime.output_dir))
    return job_return


def job_return_hydra_cfg(job_folder: Path) -> DictConfig:
    """What a sweep needs of Hydra's entry in the config of a job: its folder."""
    return DictConfig({"hydra": {"runtime": {"output_dir": str(job_folder)}}})


def run_in_worker(
    context: SweepContext,
    launch_environment: LaunchEnvironment,
    job: SweepJob,
    job_id: str | None = None,
) -> JobReturn:
    """Run a job in a worker's process, made like the one that launched it."""
    os.environ.update(launch_environment.variables)
    if launch_environment.working_folder.is_dir():
        os.chdir(launch_environment.working_folder)
    set_version_base()
    JobRuntime.instance().set("name", "train")
    setup_globals()
    bound_config_sources()
    offer_ray()
    return run_sweep_job(context, job, job_id)
