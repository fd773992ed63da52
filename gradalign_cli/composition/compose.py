"""Composing a config, as `gradalign train` does with the same overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gradalign_cli.errors import UserError


def hydra_overrides(overrides: Sequence[str]) -> list[str]:
    """What a user types, as Hydra wants it."""
    # which hyper-parameters may vary depends on the method, so the config cannot list them all
    typed = ["++" + text if text.startswith("replicas.") else text for text in overrides]
    # an objective is chosen among the methods
    return ["method@" + text if text.startswith("objective=") else text for text in typed]


def compose_config(
    conf_folder: Path, overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The resolved config that `gradalign train` makes of these overrides, and what it chose of
    each config group."""
    try:
        with initialize_config_dir(str(conf_folder), version_base="1.3"):
            whole = compose("config", hydra_overrides(overrides), return_hydra_config=True)
        with open_dict(whole):
            chosen = whole.pop("hydra").runtime.choices
        config = OmegaConf.to_container(whole, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).split())) from error
    assert isinstance(config, dict)
    groups = {str(group): str(name) for group, name in chosen.items()}
    return {str(name): value for name, value in config.items()}, groups
