"""The replicas of a run: what may differ between them."""

import itertools
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.construct import call_target, check_type, declared_types
from gradalign_cli.errors import UserError, require
from gradalign_cli.methods.combine import combine
from gradalign_cli.methods.method import Method


def replica_numbers(config: DictConfig) -> list[dict[str, float]]:
    """The replicas of a run: every combination of the values listed under `replicas`."""
    numbers = OmegaConf.to_container(config.replicas, resolve=True)
    assert isinstance(numbers, dict)
    allowed = ["seed", "lr", *varying_numbers(config.method)]
    allowed += varying_numbers(config.objective) if "objective" in config else []
    choices: dict[str, list[Any]] = {}
    for name, values in ((str(key), value) for key, value in numbers.items()):
        field = f"replicas.{name}"
        if name not in allowed:
            raise UserError(f"`{field}` cannot vary between replicas; {', '.join(allowed)} can")
        choices[name] = values if isinstance(values, list) else [values]
        require(bool(choices[name]), field, "a number or a list of them", values)
        for value in choices[name]:
            check_type(field, int if name == "seed" else float, value)
            if name == "seed":
                require(value >= 0, field, "non-negative", value)
            if name == "lr":
                require(value > 0, field, "positive", value)
    for needed in ("seed", "lr"):
        require(needed in choices, f"replicas.{needed}", "given", None)
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def varying_numbers(chosen: DictConfig) -> list[str]:
    """The hyper-parameters of a method that may vary between replicas: its floats."""
    declared = declared_types(get_method(chosen["_target_"]))
    return [name for name, kind in declared.items() if kind is float]


def build_method(config: DictConfig, numbers: dict[str, float]) -> Method:
    """The method, with the loss of another where `objective` names one."""
    made = []
    for group in ("method", "objective"):
        if group in config:
            own = {
                name: numbers[name] for name in varying_numbers(config[group]) if name in numbers
            }
            chosen = OmegaConf.merge(config[group], own)
            assert isinstance(chosen, DictConfig)
            made.append(call_target(group, chosen))
    return combine(*made) if len(made) == 2 else made[0]
