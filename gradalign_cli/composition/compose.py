"""Composing a config, as `gradalign train` does with the same overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from gradalign_cli.composition.choices import search_path_overrides
from gradalign_cli.composition.config_sources import bound_config_sources
from gradalign_cli.composition.folder_names import register_resolvers
from gradalign_cli.composition.hydra_errors import COMPOSITION_ERRORS, as_user_error
from gradalign_cli.composition.hydra_versions import VERSION_BASE
from gradalign_cli.composition.interpolations import check_interpolations_are_safe
from gradalign_cli.composition.overrides import hydra_overrides
from gradalign_cli.composition.plugins import plugin_config_folders, typed_plugins
from gradalign_cli.composition.schema import check_settings
from gradalign_cli.composition.targets import allow_plugins, require_plugins_in_overrides


class ComposedConfig(NamedTuple):
    """settings: the resolved config;  option_of_group: what is chosen of each config group."""

    settings: dict[str, Any]
    option_of_group: dict[str, str]


def compose_config(
    primary_config_folder: Path, overrides: Sequence[str], config_dir: str | None = None
) -> ComposedConfig:
    """The config that `gradalign train` makes of these overrides. Raises UserError where
    `gradalign train` does.

    config_dir: a user's folder of configs, and of the code of plugins.
    """
    installed = plugin_config_folders(typed_plugins(overrides))
    overrides = [*search_path_overrides(config_dir, installed), *overrides]
    register_resolvers()
    bound_config_sources()
    try:
        with initialize_config_dir(str(primary_config_folder), **VERSION_BASE):
            typed = hydra_overrides(overrides, [primary_config_folder])
            config_with_hydra = compose("config", typed, return_hydra_config=True)
        unresolved = OmegaConf.to_container(config_with_hydra, resolve=False)
        assert isinstance(unresolved, dict)
        check_interpolations_are_safe({str(name): entry for name, entry in unresolved.items()})
        HydraConfig.instance().set_config(config_with_hydra)
        with open_dict(config_with_hydra):
            chosen = config_with_hydra.pop("hydra").runtime.choices
        composed = OmegaConf.to_container(config_with_hydra, resolve=True)
    except COMPOSITION_ERRORS as error:
        raise as_user_error(error) from error
    assert isinstance(composed, dict)
    config = {str(name): value for name, value in composed.items()}
    check_settings(config)
    require_plugins_in_overrides(config.get("plugins", []), overrides)
    plugin_folders = [Path.cwd(), *([Path(config_dir).resolve()] if config_dir else [])]
    allow_plugins(config.get("plugins", []), plugin_folders)
    return ComposedConfig(config, {str(group): str(name) for group, name in chosen.items()})
