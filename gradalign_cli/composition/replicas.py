"""The replicas of a run: what may differ between them."""

import itertools
import math
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.construct import call_target, check_type, declared_types
from gradalign_cli.composition.targets import target_function
from gradalign_cli.errors import UserError, did_you_mean, require
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.method import Method

MethodGroup = Literal["method", "objective"]  # the groups of a config that are methods


def read_replica_settings(config: DictConfig) -> list[dict[str, float]]:
    """The numbers of each replica by name, for every combination of the values under `replicas`.

    Raises UserError where a number cannot vary between replicas or is out of its domain.
    """
    listed = OmegaConf.to_container(config.replicas, resolve=True)
    require(isinstance(listed, dict), "replicas", "settings with values, such as seed", listed)
    assert isinstance(listed, dict)
    allowed = ["seed", "lr", *settings_that_may_vary("method", config.method)]
    if config.get("objective") is not None:
        allowed += settings_that_may_vary("objective", config.objective)
    choices: dict[str, list[Any]] = {}
    for name, values in ((str(key), value) for key, value in listed.items()):
        field = f"replicas.{name}"
        if name not in allowed:
            raise UserError(
                f"`{field}` cannot vary between replicas"
                f"{did_you_mean(name, allowed) or '; ' + ', '.join(allowed) + ' can'}"
            )
        choices[name] = values if isinstance(values, list) else [values]
        require(bool(choices[name]), field, "a number or a list of them", values)
        for value in choices[name]:
            check_type(field, int if name == "seed" else float, value)
            if name == "seed":
                require(value >= 0, field, "non-negative", value)
            if name == "lr":
                require(value > 0 and math.isfinite(value), field, "positive", value)
        repeated = len(set(choices[name])) < len(choices[name])
        require(not repeated, field, "a list without repetitions", values)
    for name in ("seed", "lr"):
        require(name in choices, f"replicas.{name}", "given", None)
    combinations = itertools.product(*choices.values())
    return [dict(zip(choices, values, strict=True)) for values in combinations]


def settings_that_may_vary(config_group: MethodGroup, method_config: DictConfig) -> list[str]:
    """The settings of a method that may vary between replicas: those declared as `float`."""
    declared = declared_types(target_function(config_group, method_config))
    return [name for name, kind in declared.items() if kind is float]


def build_method(config: DictConfig, replica_settings: dict[str, float]) -> Method:
    """The method of a replica with these numbers, trained on the loss of another method where the
    config has an `objective`."""
    method = build_method_from_group("method", config.method, replica_settings)
    if config.get("objective") is None:
        return method
    return combine(method, build_method_from_group("objective", config.objective, replica_settings))


def build_method_from_group(
    config_group: MethodGroup, method_config: DictConfig, replica_settings: dict[str, float]
) -> Method:
    """A method from its config, with the replica's numbers in the place of the config's."""
    names = replica_settings.keys() - {"seed", "lr"}  # these are the replica's own
    replaced = {
        name: float(replica_settings[name])
        for name in settings_that_may_vary(config_group, method_config)
        if name in names
    }
    merged = OmegaConf.merge(method_config, replaced)
    assert isinstance(merged, DictConfig)
    method: Method = call_target(config_group, merged)
    return method
