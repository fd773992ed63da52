"""Which loggers there are, and whether their packages are installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from gradalign_cli.errors import UserError
from gradalign_cli.loggers.logger import Logger

CSV = "csv"  # the run's own files, which are always written
CLASSES = {"tensorboard": "TensorBoardLogger", "mlflow": "MlflowLogger", "wandb": "WandbLogger"}


def logger_names(logger_setting: Any) -> list[str]:
    """The loggers that the setting `logger` asks for, each once, without csv. Raises UserError
    where one is unknown or its package is not installed.

    logger_setting: a text or a list of texts."""
    names = logger_setting if isinstance(logger_setting, list | ListConfig) else [logger_setting]
    for name in names:
        if name not in (CSV, *CLASSES):
            choices = ", ".join((CSV, *CLASSES))
            raise UserError(f"`logger` must be of {choices}, found {name!r}")
        if name != CSV and find_spec(name) is None:
            raise UserError(
                f"`logger={name}` must have its package: pip install 'gradalign[{name}]'"
            )
    return [name for name in dict.fromkeys(names) if name != CSV]


def make_loggers(names: Sequence[str], run_folder: Path, experiment_name: str) -> list[Logger]:
    """The loggers of a run.

    run_folder: the folder of the run;  experiment_name: what projects and experiments are called.
    """
    loggers = []
    for name in names:
        module = import_module(f"gradalign_cli.loggers.{name}")
        logger: Logger = getattr(module, CLASSES[name])(run_folder.absolute(), experiment_name)
        loggers.append(logger)
    return loggers
