"""What an experiment notes of a paper: for some methods, the settings that it used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gradalign_cli.composition.construct import declared_types
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.targets import target_function
from gradalign_cli.errors import UserError, did_you_mean

SETTINGS_OF_RUNS = ("lr", "memory_batch", "least_lr")  # that may depend on the method


def check_names_in_paper_entry(config: Mapping[str, Any]) -> None:
    """Raise UserError where `paper` names a method, or a setting of one, that there is not.

    config: plain values.
    """
    methods = {path.stem: path for path in (CONF / "method").glob("*.yaml")}
    chosen = [entries for group in ("method", "objective") if (entries := config.get(group))]
    targets = {entries["name"]: entries for entries in chosen if "name" in entries}
    for name, settings in config["paper"].items():
        if name not in methods and name not in targets:
            raise UserError(f"`paper.{name}` is not a method{did_you_mean(str(name), methods)}")
        if not isinstance(settings, dict):
            raise UserError(f"`paper.{name}` must be settings with values, found {settings!r}")
        setting_names = [
            *method_setting_names(targets.get(name), methods.get(name)),
            *SETTINGS_OF_RUNS,
        ]
        for setting in settings:
            if setting not in setting_names:
                hint = did_you_mean(str(setting), setting_names)
                raise UserError(f"`paper.{name}.{setting}` is not a setting of {name}{hint}")


def method_setting_names(
    method_config: Mapping[str, Any] | None, yaml_path: Path | None
) -> list[str]:
    """The names of a method's settings, from its config, or else from its yaml."""
    if method_config is None:
        assert yaml_path is not None
        entries = OmegaConf.to_container(OmegaConf.load(yaml_path), resolve=False)
        assert isinstance(entries, dict)
        method_config = {"_target_": entries["_target_"]}
    return list(declared_types(target_function("method", method_config)))
