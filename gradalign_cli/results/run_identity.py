"""What must be the same where a run goes on: its config, data, versions and threads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gradalign_cli import __version__
from gradalign_cli.benchmarks.benchmark import Benchmark, data_fingerprint
from gradalign_cli.errors import UserError
from gradalign_cli.results.machine import NUMERICS
from gradalign_cli.results.run_files import SETTINGS_WITHOUT_EFFECT
from gradalign_cli.results.run_folder import START_ANEW
from gradalign_cli.training.checkpoints import Identity

FREE_SETTINGS = (*SETTINGS_WITHOUT_EFFECT, "plugins")  # places are compared by themselves


def run_identity(
    config: Mapping[str, Any],
    benchmark: Benchmark,
    data_order_fingerprint: str,
    engine_device_threads: Mapping[str, Any],
) -> Identity:
    """The identity of a run.

    config: plain values;  engine_device_threads: by these names.
    """
    versions = {"gradalign": __version__, "numerics": NUMERICS, "torch": torch.__version__}
    hashes = {"data": data_fingerprint(benchmark), "stream": data_order_fingerprint}
    return {
        "versions": versions,
        "places": dict(engine_device_threads),
        "config": dict(config),
        "hashes": hashes,
    }


def check_identity(folder: Path, saved: Identity, present: Identity) -> None:
    """Raise UserError, naming the first difference, unless a run can go on bit for bit."""
    before, now = (dict(compared_values(identity)) for identity in (saved, present))
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name):
            changed = f"`{name}` was {before.get(name)!r} when it began, found {now.get(name)!r}"
            if name in ("data", "stream"):
                changed = "the examples of its benchmark are others than when it began"
            raise UserError(f"the run in {folder} cannot go on: {changed}; {START_ANEW}")


def compared_values(identity: Identity) -> Iterator[tuple[str, Any]]:
    """The values of an identity that are compared, with their names. The hashes are last: a setting
    can change them too, and is then what to tell."""
    for entry in ("versions", "places"):
        yield from identity[entry].items()
    config = {n: v for n, v in identity["config"].items() if n not in FREE_SETTINGS}
    yield from flattened_settings("", config)
    yield from identity["hashes"].items()


def flattened_settings(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of nested settings, by names such as `method.margin`."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened_settings(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value
