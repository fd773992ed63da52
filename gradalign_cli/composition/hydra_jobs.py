"""Hydra's entry: it composes the config of each job, makes its folder and launches it."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.composition.compose import hydra_overrides
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError

OmegaConf.register_new_resolver("unique", lambda: os.urandom(3).hex(), use_cache=True)

SWEEP_JOBS = "GRADALIGN_SWEEP_JOBS"  # a variable of the environment, which launchers hand on


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
        count_sweep_jobs(arguments)
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except UserError:
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        sentence = " ".join(str(error).split())
        print(f"gradalign: {sentence}", file=sys.stderr)
        return 2
    return 0


def count_sweep_jobs(arguments: Sequence[str]) -> None:
    """Tell this process and those that it starts how many jobs a sweep has, where its sweeper tries
    every combination."""
    sweeps = {"-m", "--multirun"} & set(arguments)
    searches = any(text.startswith("hydra/sweeper=") for text in arguments)
    os.environ.pop(SWEEP_JOBS, None)
    if sweeps and not searches:
        typed = [text for text in arguments if "=" in text and not text.startswith("-")]
        overrides = OverridesParser.create().parse_overrides(hydra_overrides(typed))
        swept = [override for override in overrides if override.is_sweep_override()]
        counts = [len(list(override.sweep_string_iterator())) for override in swept]
        os.environ[SWEEP_JOBS] = str(math.prod(counts))


def sweep_job_text() -> str | None:
    """Which of how many jobs of a sweep the present one is, None where there is no sweep."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return None
    count = os.environ.get(SWEEP_JOBS)
    return f"job {int(hydra_config.job.num) + 1}" + (f" of {count}" if count else "")


def job_overrides_text() -> str:
    """What tells the present job from the others of its sweep."""
    return " ".join(HydraConfig.get().overrides.task)


def job_folder() -> Path:
    """The folder that Hydra made for the present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def exit_failed_job(error: UserError) -> None:
    """Say what was wrong with a job. A single one ends the process; in a sweep the others go on."""
    print(f"gradalign: {error}", file=sys.stderr, flush=True)  # at once, also in a sweep
    if HydraConfig.get().mode == RunMode.RUN:
        sys.exit(2)
    raise error
