"""`gradalign train`: Hydra composes the config, each job is one run, mistakes end in a sentence."""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from gradalign_cli.cli import CONF
from gradalign_cli.errors import UserError

OmegaConf.register_new_resolver("unique", lambda: os.urandom(3).hex(), use_cache=True)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(config: DictConfig) -> None:
    """One run in the folder Hydra made for it."""
    from gradalign_cli.allocator import keep_freed_memory
    from gradalign_cli.train import train

    keep_freed_memory()
    try:
        train(config, Path(HydraConfig.get().runtime.output_dir), Console())
    except UserError as error:
        print(f"gradalign: {error}", file=sys.stderr, flush=True)  # at once, also in a sweep
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(2)
        raise  # the other jobs of a sweep go on


def opened(arguments: list[str]) -> list[str]:
    """What a user types, as Hydra wants it."""
    # which hyper-parameters may vary depends on the method, so the config cannot list them all
    arguments = ["++" + a if a.startswith("replicas.") else a for a in arguments]
    # an objective is chosen among the methods
    return ["method@" + a if a.startswith("objective=") else a for a in arguments]


def main(arguments: list[str]) -> int:
    """Hand the arguments to Hydra; 2 where the input was at fault."""
    sys.argv = ["gradalign train", *opened(arguments)]
    if "-sc" in arguments:  # the shell's completion knows `gradalign` and not its verbs
        sys.argv[0] = "gradalign"
        typed = os.environ.get("COMP_LINE", "")
        os.environ["COMP_LINE"] = typed.replace("gradalign train", "gradalign", 1)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us instead of being printed
    try:
        job()
    except UserError:
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        sentence = " ".join(str(error).split())
        print(f"gradalign: {sentence}", file=sys.stderr)
        return 2
    return 0
