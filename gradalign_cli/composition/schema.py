"""The settings of a run that belong to no part of it: their names, types and domains.

Refusals, help and completion read them here; defaults and comments are those of conf/config.yaml.
"""

import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.construct import LARGEST_WHOLE_NUMBER, check_type
from gradalign_cli.composition.targets import OPTIONAL_GROUPS, ROOM_OF_GROUP, list_command
from gradalign_cli.errors import UserError, did_you_mean, require
from gradalign_cli.loggers.choice import logger_names
from gradalign_cli.results.metrics import Convention
from gradalign_cli.step.learner import AlignedVector

MOST_THREADS = 1024  # the system ends a process that starts far more
LONGEST_NAME = 100  # characters of a run's name, which is a folder


class AtLeast(NamedTuple):
    """The domain of a whole number, with its bounds."""

    minimum: int
    maximum: int = LARGEST_WHOLE_NUMBER


class Above(NamedTuple):
    """The domain of a number: larger than the bound."""

    bound: float


class FolderName(NamedTuple):
    """The domain of a text that names a folder."""


ObjectiveMetric = Literal[
    "ACC", "BWT", "FWT", "forgetting", "LA", "AAA", "min_ACC", "WC_ACC", "stability_gap"
]
Count = Annotated[int, AtLeast(1)]


class Metrics(NamedTuple):
    """What is measured, and by whose convention."""

    convention: Convention
    lca_batches: Annotated[int, AtLeast(0)]
    continual_every: Annotated[int, AtLeast(0)]
    continual_samples: Count


class Alignment(NamedTuple):
    """What is aligned, and what is written of the angles."""

    every: Count
    of: AlignedVector = "gradient"  # which configs of earlier versions do not say


class Checkpoint(NamedTuple):
    """When an unfinished run is saved."""

    minutes: Annotated[float | None, Above(0)]


class Settings(NamedTuple):
    """The settings at the top of a config, beside its groups, `replicas` and `paper`."""

    name: Annotated[str, FolderName()]
    data_dir: str | None
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int | None, AtLeast(1, MOST_THREADS)]
    engine: Literal["auto", "eager", "graph", "vmap", "streams"]
    memory_budget: Annotated[float | None, Above(0)]
    batch_size: Count
    passes: Count
    memory_batch: Annotated[int | None, AtLeast(1)]
    metrics: Metrics
    alignment: Alignment
    # settings that configs of earlier versions do not have, and what they mean there
    plugins: list[str] = []  # noqa: RUF012
    overwrite: bool = False
    save: Literal["network", "none"] = "network"
    report: bool = True
    logger: Any = "csv"  # a text or a list of texts, which `logger_names` checks
    quick: bool = False
    skip_finished: bool = True
    objective_metric: ObjectiveMetric = "ACC"
    resume: Literal["never", "auto"] = "never"
    checkpoint: Checkpoint = Checkpoint(None)
    image_budget: Annotated[float | None, Above(0)] = None


FREE_ENTRIES = ("replicas", "paper")  # their names are those of methods' settings


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A config as plain values."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}


def check_settings(config: Mapping[str, Any]) -> None:
    """Raise UserError where a config has a setting that there is not, lacks one, or has a value out
    of its domain. The settings of parts are checked where the parts are built.

    config: plain values, without Hydra's own entry.
    """
    setting_names = [*get_type_hints(Settings), *ROOM_OF_GROUP, *FREE_ENTRIES]
    check_setting_names("", config, [*setting_names, "experiment"])
    if "experiment" in config:  # a group, so it never stands in a composed config
        require(False, "experiment", "the name of an experiment", config["experiment"])
    for group in ROOM_OF_GROUP:
        if group not in OPTIONAL_GROUPS:
            require(group in config, group, "chosen", None)
        entries = config.get(group)
        chosen = isinstance(entries, dict) or (entries is None and group in OPTIONAL_GROUPS)
        require(chosen, group, f"one of `{list_command(group)}`", entries)
        if entries and "_target_" not in entries:
            raise UserError(
                f"`{group}` must be chosen before its settings can be given, as "
                f"`{list_command(group)}` shows, found "
                f"{', '.join(f'`{group}.{name}`' for name in entries)} alone"
            )
    for entry in FREE_ENTRIES:
        entries = config.get(entry)
        require(isinstance(entries, dict), entry, "settings with values", entries)
    check_values("", config, Settings)
    logger_names(config.get("logger", "csv"))


def check_setting_names(prefix: str, entries: Mapping[str, Any], allowed_names: list[str]) -> None:
    """Raise UserError where an entry has none of the allowed names."""
    for name in entries:
        if name not in allowed_names:
            groups = [
                group
                for group, settings in entries.items()
                if isinstance(settings, dict) and name in settings
            ]
            if groups:
                raise UserError(f"`{name}` is not a setting; did you mean `{groups[0]}.{name}`?")
            advice = (
                did_you_mean(str(name), allowed_names) or "; `gradalign train --help` lists all"
            )
            raise UserError(f"`{prefix}{name}` is not a setting{advice}")


def check_values(prefix: str, entries: Mapping[str, Any], settings_class: Any) -> None:
    """Raise UserError unless the entries have the types and domains of a class's fields."""
    for name, declared in get_type_hints(settings_class, include_extras=True).items():
        field = prefix + name
        if name not in entries and name in settings_class._field_defaults:
            continue
        require(name in entries, field, "given", None)
        value = entries[name]
        if declared in (Metrics, Alignment, Checkpoint):
            require(isinstance(value, dict), field, "settings with values", value)
            check_setting_names(f"{field}.", value, list(get_type_hints(declared)))
            check_values(f"{field}.", value, declared)
        else:
            check_value(field, declared, value)


def check_value(field: str, declared_type: Any, value: Any) -> None:
    """Raise UserError unless a value is of its declared type and in its domain."""
    domains: tuple[Any, ...] = ()
    if get_origin(declared_type) is Annotated:
        declared_type, *domains = get_args(declared_type)  # type: ignore[assignment]
    if value is None and NoneType in get_args(declared_type):
        return
    for domain in domains:
        check_domain(field, domain, value, NoneType in get_args(declared_type))
    check_type(field, declared_type, value)


def check_domain(field: str, domain: Any, value: Any, may_be_null: bool) -> None:
    """Raise UserError unless a value is in a domain."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    or_null = " or null" if may_be_null else ""
    if isinstance(domain, AtLeast):
        fits = number and isinstance(value, int) and value >= domain.minimum
        words = f"a whole number of at least {domain.minimum}"
        if domain.maximum != LARGEST_WHOLE_NUMBER or (fits and value > domain.maximum):
            words += f" and at most {domain.maximum}"
        require(fits and value <= domain.maximum, field, words + or_null, value)
    elif isinstance(domain, Above):
        require(number and value > domain.bound, field, f"above {domain.bound:g}{or_null}", value)
    else:
        fits = isinstance(value, str) and re.fullmatch(r"[\w][\w.+-]*", value) is not None
        words = f"a folder's name of letters, digits, '_', '-' and '.', at most {LONGEST_NAME}"
        require(fits and len(value) <= LONGEST_NAME, field, words, value)
