"""The replicas of a run: what may differ between them."""

import itertools
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.construct import call_target, check_type, declared_types
from gradalign_cli.errors import UserError, require
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.method import Method


def read_replica_settings(config: DictConfig) -> list[dict[str, float]]:
    """The numbers of each replica by name, for every combination of the values under `replicas`.

    Raises UserError where a number cannot vary between replicas or is out of its domain.
    """
    listed = OmegaConf.to_container(config.replicas, resolve=True)
    assert isinstance(listed, dict)
    allowed = ["seed", "lr", *settings_that_may_vary(config.method)]
    allowed += settings_that_may_vary(config.objective) if "objective" in config else []
    choices: dict[str, list[Any]] = {}
    for name, values in ((str(key), value) for key, value in listed.items()):
        field = f"replicas.{name}"
        if name not in allowed:
            raise UserError(f"`{field}` cannot vary between replicas; {', '.join(allowed)} can")
        choices[name] = values if isinstance(values, list) else [values]
        require(bool(choices[name]), field, "a number or a list of them", values)
        repeated = len(set(choices[name])) < len(choices[name])
        require(not repeated, field, "a list without repetitions", values)
        for value in choices[name]:
            check_type(field, int if name == "seed" else float, value)
            if name == "seed":
                require(value >= 0, field, "non-negative", value)
            if name == "lr":
                require(value > 0, field, "positive", value)
    for name in ("seed", "lr"):
        require(name in choices, f"replicas.{name}", "given", None)
    combinations = itertools.product(*choices.values())
    return [dict(zip(choices, values, strict=True)) for values in combinations]


def settings_that_may_vary(config: DictConfig) -> list[str]:
    """The settings of a method that may vary between replicas: those declared as `float`."""
    declared = declared_types(get_method(config["_target_"]))
    return [name for name, kind in declared.items() if kind is float]


def build_method(config: DictConfig, replica_settings: dict[str, float]) -> Method:
    """The method of a replica with these numbers, trained on the loss of another method where the
    config has an `objective`."""
    method = build_method_of_group("method", config.method, replica_settings)
    if "objective" not in config:
        return method
    return combine(method, build_method_of_group("objective", config.objective, replica_settings))


def build_method_of_group(
    group: str, config: DictConfig, replica_settings: dict[str, float]
) -> Method:
    """A method from its config, with the replica's numbers in the place of the config's."""
    names = replica_settings.keys() - {"seed", "lr"}  # these are the replica's own
    replaced = {
        name: float(replica_settings[name])
        for name in settings_that_may_vary(config)
        if name in names
    }
    merged = OmegaConf.merge(config, replaced)
    assert isinstance(merged, DictConfig)
    method: Method = call_target(group, merged)
    return method
