"""The options of `hydra/launcher=ray`."""

from dataclasses import dataclass
from functools import cache

from hydra.core.config_store import ConfigStore


@dataclass
class RayConfig:
    """The options and their defaults."""

    _target_: str = "hydra_plugins.gradalign.RayLauncher"
    address: str | None = None  # of a cluster; null: $RAY_ADDRESS, else workers of this machine
    workers: int | None = None  # of this machine at a time; null: as many as it has cores
    cpus_per_job: float = 1.0
    gpus_per_job: float | None = None  # null: one where the cluster has GPUs, else none


@cache
def offer_ray() -> None:
    """Let Hydra know `hydra/launcher=ray`."""
    ConfigStore.instance().store("ray", RayConfig, "hydra/launcher", provider="gradalign")
