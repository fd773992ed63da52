"""`gradalign info`: what a bug report needs to say, on one screen."""

import importlib.util
import os
import pkgutil
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.table import Table

from gradalign_cli import __version__
from gradalign_cli.commands.verb_parser import VerbParser
from gradalign_cli.composition.paths import CONF
from gradalign_cli.composition.plugins import installed_plugins
from gradalign_cli.data.dataset import NAMES
from gradalign_cli.data.sources import available_datasets, data_folder
from gradalign_cli.results.machine import git_commit
from gradalign_cli.results.terminal import terminal_console

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scipy", "rich")
VARIABLES = (
    "GRADALIGN_DATA",
    "GRADALIGN_DEBUG",
    "XDG_CACHE_HOME",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTHONIOENCODING",
    "LC_ALL",
    "TERM",
    "NO_COLOR",
)


def main(arguments: list[str]) -> int:
    """Print versions, machine and folders; returns the exit code."""
    description = "Versions, device, threads and folders, for a bug report."
    VerbParser(prog="gradalign info", description=description).parse_args(arguments)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in info_rows().items():
        table.add_row(name, text)
    terminal_console().print(table)
    return 0


def info_rows() -> dict[str, str]:
    """What is printed, by the name of its row."""
    installed = data_folder(None)
    commit, free_memory = git_commit(), memory_gibibytes("SC_AVPHYS_PAGES")
    return {
        "gradalign": f"{__version__}, commit {commit}" if commit else __version__,
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "packages": ", ".join(f"{name} {package_version(name)}" for name in PACKAGES),
        "hydra plugins": ", ".join(hydra_plugins()) or "none",
        "plugins": ", ".join(installed_plugins()) or "none installed",
        "device": device_text(),
        "CPU": f"{usable_cores()} of {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "memory": f"{free_memory} of {memory_gibibytes('SC_PHYS_PAGES')} GiB are free",
        "data": str(installed),
        "datasets": ", ".join(available_datasets(NAMES)),
        "configs": str(CONF),
        "environment": ", ".join(f"{v}={os.environ[v]}" for v in VARIABLES if v in os.environ),
    }


def package_version(name: str) -> str:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def hydra_plugins() -> list[str]:
    """The names of the launchers and sweepers that are installed beside Hydra's own."""
    spec = importlib.util.find_spec("hydra_plugins")
    locations = (spec and spec.submodule_search_locations) or []
    return [module.name for module in pkgutil.iter_modules(locations)]


def device_text() -> str:
    """The GPU with its memory and CUDA's version, or that there is none."""
    if not torch.cuda.is_available():
        return "cpu; PyTorch finds no GPU"
    properties = torch.cuda.get_device_properties(0)
    count, memory = torch.cuda.device_count(), properties.total_memory / 2**30
    cuda = torch.version.cuda
    return f"cuda; {count} GPU: {properties.name}, {memory:.0f} GiB, CUDA {cuda}"


def usable_cores() -> int:
    """How many of the machine's cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # which macOS lacks
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory_gibibytes(sysconf_name: str) -> str:
    """A number of pages of memory that the system tells under a name, in GiB."""
    if sysconf_name not in os.sysconf_names:
        return "?"
    return f"{os.sysconf(sysconf_name) * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f}"
