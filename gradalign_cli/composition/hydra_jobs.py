"""Hydra's entry: it composes the config of each job, makes its folder and launches it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.composition.compose import hydra_overrides
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError

OmegaConf.register_new_resolver("unique", lambda: os.urandom(3).hex(), use_cache=True)


class FailedJobError(Exception):
    """A job of a sweep failed, and has said why."""


def run_jobs(job: Callable[[DictConfig], None], arguments: Sequence[str]) -> int:
    """Run `job` for each config that the arguments describe. Returns the exit code: 1 where jobs of
    a sweep failed. Raises UserError where no config can be composed.

    job: a function of a module, which a launcher can find again in another process.
    """
    sys.argv = ["gradalign train", *hydra_overrides(arguments)]
    if "-sc" in arguments:  # the shell's completion knows `gradalign` and not its verbs
        sys.argv[0] = "gradalign"
        typed = os.environ.get("COMP_LINE", "")
        os.environ["COMP_LINE"] = typed.replace("gradalign train", "gradalign", 1)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us instead of being printed
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except FailedJobError:
        return 1
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).split())) from error
    return 0


def job_folder() -> Path:
    """The folder that Hydra made for the present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def sweep_folder() -> Path | None:
    """The folder of the sweep that the present job belongs to, None where it is a single run."""
    config = HydraConfig.get()
    return Path(config.sweep.dir) if config.mode == RunMode.MULTIRUN else None


def end_failed_job(exit_code: int) -> NoReturn:
    """End a job that has said what was wrong. A single one ends the process; in a sweep the others
    go on."""
    if sweep_folder() is None:
        sys.exit(exit_code)
    raise FailedJobError
