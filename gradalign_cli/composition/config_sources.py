"""Where Hydra reads configs: in files within bounds, and in no packages but its own."""

import copy
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

MOST_CACHED_FILES, LARGEST_CACHED_FILE = 500, 2**14  # bytes
CONFIG_CACHE: dict[tuple[str | int, ...], ConfigResult] = {}  # each job of a sweep reads the same
TRUSTED_PACKAGES = ("hydra.conf", "hydra_plugins.")  # to read of a package runs its code


class BoundedFiles(FileConfigSource):
    """Hydra's reader of a folder, which checks every file before it is read, wherever it lies."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The config in a file; UserError where the file is not within the bounds."""
        name = self._normalize_file_name(config_path)
        path = Path(os.path.realpath(os.path.join(self.path, name)))
        if not path.exists():
            return super().load_config(config_path)
        status = path.stat()
        key = (str(self.provider), self.path, str(path), status.st_ino, status.st_mtime_ns)
        if key not in CONFIG_CACHE:
            check_yaml(path)
            try:
                config = super().load_config(config_path)
            except (yaml.YAMLError, ValueError, TypeError) as error:
                raise UserError(f"{path} must be a valid config ({one_line(error)})") from error
            if status.st_size > LARGEST_CACHED_FILE:
                return config
            if len(CONFIG_CACHE) >= MOST_CACHED_FILES:
                CONFIG_CACHE.clear()
            CONFIG_CACHE[key] = config
        return copy.deepcopy(CONFIG_CACHE[key])  # as Hydra changes what it gets


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
