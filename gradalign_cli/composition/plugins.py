"""Plugins: modules that the user names on the command line, among them those of installed packages.

A package brings parts by an entry point of the group `gradalign.plugins`, `NAME = "module"`, and
a folder `conf` in that module with their yaml files. Being installed changes nothing: only a
plugin that is named as in plugins=[NAME] is imported, or its configs read.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

GROUP = "gradalign.plugins"


def installed_plugins() -> dict[str, str]:
    """The modules of the plugins that are installed as packages, by the plugins' names. Nothing is
    imported."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=GROUP))}


def plugin_module_name(plugin_name: str) -> str:
    """The module of a plugin: that of an installed one of this name, else the name itself."""
    return installed_plugins().get(plugin_name, plugin_name)


def is_importable(module_name: str) -> bool:
    """Whether there is a module of this dotted name. Nothing is imported, so an inner module is
    looked for in the folders of its packages."""
    if module_name in sys.modules:
        return True
    importlib.invalidate_caches()  # as its file may be newer than what was listed
    package, *inner = module_name.split(".")
    if package in sys.modules:  # which may have no spec
        locations = getattr(sys.modules[package], "__path__", None)
        spec = None
    else:
        spec = importlib.util.find_spec(package)
        locations = spec and spec.submodule_search_locations
    for name in inner:
        package = f"{package}.{name}"
        spec = PathFinder.find_spec(package, locations) if locations else None
        locations = spec and spec.submodule_search_locations
    return spec is not None


def typed_plugins(overrides: Sequence[str]) -> list[str]:
    """The plugins that overrides name, empty where the value cannot be read or is no list of
    names."""
    values = [text for text in overrides if text.lstrip("+").startswith("plugins=")]
    if not values:
        return []
    try:
        names = OverridesParser.create().parse_override(values[-1]).value()
    except (HydraException, ValueError, RecursionError):
        return []  # told where the config is composed
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def plugin_config_folders(plugin_names: Sequence[str]) -> list[Path]:
    """The folders of configs that installed plugins of these names bring. Their modules are found
    and not imported."""
    modules, folders = installed_plugins(), []
    for name in plugin_names:
        package, *inner = modules.get(name, "").split(".")
        spec = importlib.util.find_spec(package) if package else None
        for location in (spec and spec.submodule_search_locations) or ():
            folder = Path(location, *inner, "conf")
            if folder.is_dir():
                folders.append(folder.resolve())
    return folders
