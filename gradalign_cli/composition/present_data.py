"""Whether the data that a finished run was trained on is still what its config names."""

import functools
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.benchmarks.benchmark import data_fingerprint
from gradalign_cli.composition.datasets import are_datasets_available
from gradalign_cli.composition.parts import build_benchmark
from gradalign_cli.composition.schema import plain_values
from gradalign_cli.data import data_folder
from gradalign_cli.errors import UserError

DECIDING_SETTINGS = ("benchmark", "stream", "quick", "data_dir")


def is_other_data(record: dict[str, Any], config: DictConfig) -> bool:
    """Whether a run, by its record.json, met other examples than a run of the config would meet
    now. False where that cannot be told: the record is of a version that does not say, or the data
    is not on this machine."""
    recorded = record.get("data")
    present = recorded and present_data_fingerprint(config)
    return bool(present) and present != recorded


def present_data_fingerprint(config: DictConfig) -> str | None:
    """The hash of the examples of a config's benchmark, None where they cannot be had."""
    settings = {name: plain_values(config).get(name) for name in DECIDING_SETTINGS}
    with suppress(UserError):  # which a run of this config tells
        if are_datasets_available(config):
            stamp = folder_stamp(data_folder(config.data_dir))
            return fingerprint_of_settings(json.dumps(settings, sort_keys=True), stamp)
    return None


@functools.lru_cache(maxsize=4)  # one sweep has many jobs on the same data
def fingerprint_of_settings(settings_json: str, folder_stamp: str) -> str:
    """The hash of the examples that the DECIDING_SETTINGS choose, while the folder of datasets has
    this stamp."""
    config = OmegaConf.create(json.loads(settings_json))
    assert isinstance(config, DictConfig)
    return data_fingerprint(build_benchmark(config))


def folder_stamp(folder: Path) -> str:
    """The names, sizes and times of the entries of a folder, empty where there is none."""
    try:
        entries = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except OSError:
        return ""
    return str(sorted((name, status.st_size, status.st_mtime_ns) for name, status in entries))
