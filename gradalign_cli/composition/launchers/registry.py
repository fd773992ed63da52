"""Hydra's launchers as a user names them, and ours that take their place with the same options."""

from importlib.util import find_spec

from hydra.core.plugins import Plugins

from gradalign_cli.composition.launchers.basic import BasicLauncher
from gradalign_cli.composition.launchers.joblib_launcher import JoblibLauncher
from gradalign_cli.composition.launchers.ray_config import offer_ray
from gradalign_cli.composition.launchers.ray_launcher import RayLauncher
from gradalign_cli.composition.launchers.submitit_launcher import LocalLauncher, SlurmLauncher
from gradalign_cli.composition.launchers.sweep_launcher import SweepLauncher
from gradalign_cli.errors import UserError

OURS = "hydra_plugins.gradalign."  # Hydra takes launchers of this namespace alone
LAUNCHERS: dict[str, type[SweepLauncher]] = {
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher": BasicLauncher,
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": JoblibLauncher,
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": LocalLauncher,
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": SlurmLauncher,
    f"{OURS}RayLauncher": RayLauncher,
}
SUBMITIT = "submitit", ("hydra_plugins.hydra_submitit_launcher", "submitit")
# the extra that brings a launcher or a sweeper, and the modules that are there with it
EXTRAS = {
    "hydra/launcher=joblib": ("joblib", ("hydra_plugins.hydra_joblib_launcher", "joblib")),
    "hydra/launcher=submitit_local": SUBMITIT,
    "hydra/launcher=submitit_slurm": SUBMITIT,
    "hydra/launcher=slurm": SUBMITIT,
    "hydra/launcher=ray": ("ray", ("ray",)),
    "hydra/sweeper=optuna": ("optuna", ("hydra_plugins.hydra_optuna_sweeper", "optuna")),
}


def register_launchers() -> None:
    """Let Hydra make our launchers, and offer `hydra/launcher=ray`."""
    classes = Plugins.instance().class_name_to_class
    classes |= {f"{OURS}{launcher.__name__}": launcher for launcher in LAUNCHERS.values()}
    offer_ray()


def replacement_launcher_target(target: str) -> str | None:
    """The `_target_` of our launcher that takes the place of another, None where there is none.

    target: `hydra.launcher._target_` of the other.
    """
    launcher = LAUNCHERS.get(target)
    return None if launcher is None else f"{OURS}{launcher.__name__}"


def check_extras(overrides: list[str]) -> None:
    """Raise UserError where an override chooses what is not installed."""
    for override in overrides:
        extra, modules = EXTRAS.get(override.lstrip("+"), ("", ()))
        if not all(map(is_installed, modules)):
            raise UserError(f"`{override}` needs more: pip install 'gradalign[{extra}]'")


def is_installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False
