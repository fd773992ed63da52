"""Where Hydra reads configs: in files within bounds, and in no packages but its own."""

import os
from pathlib import Path

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from gradalign_cli.composition.yaml_bounds import check_yaml
from gradalign_cli.errors import UserError

TRUSTED_PACKAGES = ("hydra.conf", "hydra_plugins.")  # to read of a package runs its code


class BoundedFiles(FileConfigSource):
    """Hydra's reader of a folder, which checks every file before it is read, wherever it lies."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The config in a file; UserError where the file is not within the bounds."""
        name = self._normalize_file_name(config_path)
        path = Path(os.path.realpath(os.path.join(self.path, name)))
        if path.exists():
            check_yaml(path)
        try:
            return super().load_config(config_path)
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise UserError(f"{path} must be a valid config ({one_line(error)})") from error


class TrustedPackages(ImportlibResourcesConfigSource):
    """Hydra's reader of packages, for those of Hydra."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        if not self.path.startswith(TRUSTED_PACKAGES):
            raise UserError(
                f"`hydra.searchpath` must name folders as file://FOLDER, found package {self.path}"
            )


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


def bound_config_sources() -> None:
    """Let Hydra read all configs of this process through these two."""
    Plugins.instance()  # registers Hydra's
    SourcesRegistry.instance().types |= {"file": BoundedFiles, "pkg": TrustedPackages}
