"""The datasets that a config's benchmark names."""

import warnings
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.data import available_datasets, data_folder, load_dataset
from gradalign_cli.errors import UserError, require


def config_without_missing_datasets(config: DictConfig) -> DictConfig:
    """The config with those of the benchmark's `datasets` that are on this machine, so that a run
    records what it really was; a warning names the missing ones.

    Raises UserError where fewer than two are there.
    """
    if "datasets" not in config.benchmark:
        return config
    names, folder = config.benchmark.datasets, data_folder(config.data_dir)
    require(OmegaConf.is_list(names), "benchmark.datasets", "a list of names", names)
    are_names = all(isinstance(name, str) for name in names)
    require(are_names, "benchmark.datasets", "a list of names", list(names))
    repeated = len({*names}) < len(names)
    require(not repeated, "benchmark.datasets", "a list without repetitions", list(names))
    available = available_datasets(names, config.data_dir)
    advice = f"in {folder}; `gradalign data status` says how to get them"
    if len(available) < 2:
        raise UserError(
            f"`benchmark.datasets` needs two of {', '.join(names)} or more, found "
            f"{' and '.join(available) or 'none'} {advice}"
        )
    missing = [name for name in names if name not in available]
    if missing:
        warnings.warn(
            f"going on with {len(available)} tasks: {', '.join(missing)} not found {advice}",
            stacklevel=1,
        )
    narrowed = OmegaConf.merge(config, {"benchmark": {"datasets": available}})
    assert isinstance(narrowed, DictConfig)
    return narrowed


def load_datasets_as_arguments(config: DictConfig) -> dict[str, Any]:
    """The argument that the benchmark's function takes its data by: `dataset`, or a list of
    `datasets`."""
    if "datasets" in config.benchmark:
        names = config.benchmark.datasets
        return {"datasets": [load_dataset(name, config.data_dir) for name in names]}
    return {"dataset": load_dataset(config.benchmark.get("dataset"), config.data_dir)}


def are_datasets_available(config: DictConfig) -> bool:
    """Whether all that the config's benchmark reads is on this machine. A benchmark that names no
    dataset reads none."""
    entries = config.benchmark
    names = [*(entries.get("datasets") or []), entries.get("dataset")]
    names = [name for name in names if name is not None]
    return len(available_datasets(names, config.data_dir)) == len(names)


def require_datasets(config: DictConfig) -> None:
    """Download what the benchmark's `dataset` needs where it is not on this machine. Raises
    UserError where it cannot be had. Of several `datasets` a run says itself which are missing."""
    name = config.benchmark.get("dataset")
    if name is not None and not available_datasets([name], config.data_dir):
        load_dataset(name, config.data_dir)
