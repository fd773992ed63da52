"""A finished run's networks, built anew from its folder."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.overrides import override_key
from gradalign_cli.composition.parts import build_model
from gradalign_cli.composition.replicas import read_replica_settings
from gradalign_cli.composition.targets import check_plugin_names
from gradalign_cli.errors import UserError, require
from gradalign_cli.results.network_file import (
    NETWORK_FILE,
    read_networks,
    read_sizes,
    view_of,
)
from gradalign_cli.results.trained_network import TrainedNetwork


def read_run_config(
    run_folder: Path, overrides: Sequence[str] = (), config_dir: str | None = None
) -> DictConfig:
    """The checked config of a run. Plugins of its config are trusted only where an override names
    them.

    Raises UserError where the folder has no config or keeps no network.
    """
    for name in ("config.yaml", NETWORK_FILE):
        if not (run_folder / name).is_file():
            raise UserError(
                f"{run_folder} must be the folder of a finished run with `save=network`, found no "
                f"{name}"
            )
    typed = {override_key(text) for text in overrides}
    no_plugins = [] if "plugins" in typed else ["plugins=[]"]
    config = compose_config(run_folder.resolve(), [*overrides, *no_plugins], config_dir).settings
    created = OmegaConf.create(config)
    assert isinstance(created, DictConfig)
    return created


def load(
    run_dir: str | Path,
    replica: int = 0,
    plugins: Sequence[str] = (),
    config_dir: str | None = None,
) -> TrainedNetwork:
    """The network that a replica of a finished run ended with, as a torch.nn.Module.

    replica:    its number, as in accuracy.csv.
    plugins:    the modules of the user that the run's config may take parts from, as in
                plugins=[...] on the command line;  config_dir: as --config-dir there.
    Raises UserError where the folder is no finished run with a network or does not fit together.
    """
    folder = Path(run_dir)
    check_plugin_names(plugins)
    overrides = [f"plugins=[{','.join(plugins)}]"] if plugins else []
    config = read_run_config(folder, overrides, config_dir)
    path = folder / NETWORK_FILE
    sizes = read_sizes(path)
    model = build_model(config, sizes.image_shape, sizes.outputs)
    replicas = len(read_replica_settings(config))
    networks = read_networks(path, model, replicas)
    is_replica = type(replica) is int and 0 <= replica < replicas  # True is no number
    require(is_replica, "replica", f"in 0..{replicas - 1}", replica)
    return TrainedNetwork(model, networks, view_of(networks, replica), replica)
