"""The functions that a config may name by `_target_`: the package's own, and those of plugins."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

import hydra
from hydra.utils import get_object

from gradalign_cli.composition.plugins import is_importable, plugin_module_name
from gradalign_cli.errors import UserError, did_you_mean, error_text, require

ROOM_OF_GROUP = {
    "benchmark": "benchmarks",
    "stream": "streams",
    "buffer": "buffers",
    "objective": "methods",
    "method": "methods",
    "model": "models",
    "augment": "augmentations",
    "optimizer": "optimizers",
    "schedule": "schedules",
}
RESULT_OF_GROUP = {
    "benchmark": "Benchmark",
    "stream": "Benchmark",
    "buffer": "Buffer",
    "objective": "Method",
    "method": "Method",
    "model": "Model",
    "augment": "Augmentation",
    "optimizer": "Optimizer",
    "schedule": "Schedule",
}
OPTIONAL_GROUPS = ("stream", "objective", "augment", "schedule")
NAMED_GROUPS = ("method", "objective")  # whose configs say what the part is called
PLACES = "what is installed, the working folder and that of --config-dir"  # of plugins
PLUGINS: list[str] = []  # the modules that the user named on the command line


def list_command(group: str) -> str:
    """The command that lists the options of a group."""
    return f"gradalign list {'method' if group == 'objective' else group}"


def allow_plugins(plugin_names: object, import_folders: Sequence[Path]) -> None:
    """Let configs name functions of these modules, or of the modules of installed plugins of these
    names, and of modules inside them. They are imported from what is installed, or else from one of
    the folders.

    Raises UserError where `plugin_names` is no list of names of modules that are there.
    """
    check_plugin_names(plugin_names)
    modules = {name: plugin_module_name(name) for name in plugin_names}  # type: ignore[attr-defined]
    for folder in map(str, import_folders):
        if modules and folder not in sys.path:
            sys.path.append(folder)
    for name, module in modules.items():
        domain = f"names of modules in {PLACES}"
        require(is_importable(module), "plugins", domain, name)
    PLUGINS[:] = modules.values()


def check_plugin_names(plugin_names: object) -> None:
    """Raise UserError unless something is a list of names that modules can have."""
    are_names = isinstance(plugin_names, list | tuple) and all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
        for name in plugin_names
    )
    require(are_names, "plugins", "a list of names of modules", plugin_names)


def require_plugins_in_overrides(plugin_names: object, overrides: Sequence[str]) -> None:
    """Raise UserError where a config names plugins that none of the user's overrides names."""
    typed = any(text.lstrip("+").partition("=")[0] == "plugins" for text in overrides)
    if plugin_names and not typed:
        raise UserError(
            "`plugins` must be given on the command line, as it says whose code may run, found "
            f"{plugin_names} in a config"
        )


@contextmanager
def hydra_silenced() -> Iterator[None]:
    """Keep Hydra from writing of an error that we tell in a sentence."""
    logger = logging.getLogger("hydra.utils")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def is_inside(dotted_name: str, module_name: str) -> bool:
    """Whether a dotted name is a module or lies in it."""
    return dotted_name == module_name or dotted_name.startswith(module_name + ".")


def is_of_plugin(dotted_name: str) -> bool:
    """Whether a dotted name lies in a module that the user named on the command line."""
    return any(is_inside(dotted_name, plugin) for plugin in PLUGINS)


def target_function(group: str, group_config: Mapping[Any, Any]) -> Callable[..., Any]:
    """The function that a group's config names by `_target_`. It is looked for, and so imported,
    only in the package's folder for the group and in plugins.

    Raises UserError for any other.
    """
    field, room = f"{group}._target_", f"gradalign_cli.{ROOM_OF_GROUP[group]}"
    function = import_allowed(field, group_config.get("_target_"), [room])
    result = getattr(getattr(function, "__annotations__", {}).get("return"), "__name__", None)
    if not inspect.isfunction(function) or result not in (None, RESULT_OF_GROUP[group]):
        raise UserError(f"`{field}` must be a function that returns a {RESULT_OF_GROUP[group]}")
    return function


def import_failure(dotted_name: str, error: BaseException) -> str:
    """Why a dotted name cannot be imported: what its module lacks, which line of it failed, or that
    there is no such module."""
    parts = dotted_name.split(".")
    prefixes = [".".join(parts[:k]) for k in range(len(parts), 0, -1)]
    module = next((sys.modules[name] for name in prefixes if name in sys.modules), None)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if module is not None and missing and missing.startswith(f"{module.__name__}."):
        name, place = missing.removeprefix(f"{module.__name__}."), getattr(module, "__file__", "")
        return f"{place or module.__name__} has no `{name}`{did_you_mean(name, vars(module))}"
    if missing in prefixes:
        return f"{error_text(error)}; a module is looked for in {PLACES}"
    if isinstance(error, SyntaxError):  # which says where
        return error_text(error)
    importing_files = "<", str(Path(hydra.__file__).parent), __file__  # Python's own begin with <
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith(importing_files)
    ]
    if not frames:
        return error_text(error)
    place = f"{frames[-1].filename}, line {frames[-1].lineno}"
    return f"{type(error).__name__}: {error_text(error)} ({place})"


def import_allowed(field: str, dotted_name: object, trusted_modules: Sequence[str]) -> Any:
    """What a dotted name names, where it lies in a trusted module or a plugin, and so was written
    there. No other module is imported for it.

    Raises UserError for any other name.
    """
    require(isinstance(dotted_name, str), field, "the name of a function", dotted_name)
    allowed = [*trusted_modules, *PLUGINS]
    if not any(is_inside(str(dotted_name), module) for module in allowed):
        raise UserError(
            f"`{field}` must be a function of {allowed[0]}, or of a module that is named on the "
            f"command line as in plugins=[{str(dotted_name).split('.')[0]}], found {dotted_name!r}"
        )
    try:
        with hydra_silenced():
            named = get_object(str(dotted_name))
    except (Exception, SystemExit) as error:  # what the import of the user's own module raised
        reason = import_failure(str(dotted_name), error.__cause__ or error)
        raise UserError(f"`{field}` cannot be imported: {reason}") from error
    # a module's attributes can be functions of other modules that it imported
    home = str(getattr(named, "__module__", ""))
    if not any(is_inside(home, module) for module in allowed):
        raise UserError(f"`{field}` must be a function of {allowed[0]}, found one of {home}")
    return named
