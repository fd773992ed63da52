"""Hydra's entry: it composes the config of each job, makes its folder and launches it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

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


def run_jobs(job: Callable[[DictConfig], None], arguments: Sequence[str]) -> int:
    """Run `job` for each config that the arguments describe; 2 where the input was at fault.

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
    except UserError:
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        sentence = " ".join(str(error).split())
        print(f"gradalign: {sentence}", file=sys.stderr)
        return 2
    return 0


def job_folder() -> Path:
    """The folder that Hydra made for the present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def exit_failed_job(error: UserError) -> None:
    """Say what was wrong with a job. A single one ends the process; in a sweep the others go on."""
    print(f"gradalign: {error}", file=sys.stderr, flush=True)  # at once, also in a sweep
    if HydraConfig.get().mode == RunMode.RUN:
        sys.exit(2)
    raise error
