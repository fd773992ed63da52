"""gradalign from Python: what the command line does, as functions that return objects."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.paths import CONF
from gradalign_cli.contract.gradients import make_gradients
from gradalign_cli.errors import require
from gradalign_cli.methods.method import Method, MethodSetup


class RunResult(NamedTuple):
    """What a run has left.

    folder:   the run's folder.
    accuracy: [R, T + 1, T] of each replica after each task on each task's test set, as fractions
              of 1; row 0 is of the untrained network.
    metrics:  the content of metrics.json.
    record:   the content of record.json.
    """

    folder: Path
    accuracy: np.ndarray
    metrics: dict[str, Any]
    record: dict[str, Any]


def run(
    *overrides: str,
    folder: str | Path,
    config_dir: str | None = None,
    quiet: bool = True,
) -> RunResult:
    """Train as `gradalign train OVERRIDES hydra.run.dir=FOLDER` does, in this process.

    overrides: as on the command line, such as "method=gem" or "replicas.seed=[0,1]";  folder: where
    the run is written;  config_dir: a folder of your own parts;  quiet: whether nothing is printed.
    Raises UserError where the command line ends with exit code 2.
    """
    require(
        isinstance(folder, Path) or bool(folder and isinstance(folder, str)),
        "folder",
        "the path of a folder",
        folder,
    )
    check_overrides_and_config_dir(overrides, config_dir)
    config = DictConfig(compose_config(CONF, overrides, config_dir).settings)
    console = Console(file=io.StringIO()) if quiet else Console()
    threads = torch.get_num_threads()
    try:
        metrics = train(config, Path(folder), console)
    finally:
        torch.set_num_threads(threads)
    record = json.loads((Path(folder) / "record.json").read_text())
    return RunResult(Path(folder), read_accuracy(Path(folder)), metrics, record)


def check_overrides_and_config_dir(overrides: Sequence[str], config_dir: str | None) -> None:
    """Raise UserError unless the overrides are texts and the folder of the user's parts is one."""
    for override in overrides:
        require(isinstance(override, str), "overrides", "texts such as 'method=gem'", override)
    is_folder = config_dir is None or Path(config_dir).is_dir()
    require(is_folder, "config_dir", "a folder of your parts", config_dir)


def read_accuracy(run_folder: Path) -> np.ndarray:
    """The matrices [R, T + 1, T] of a run's accuracy.csv."""
    with (run_folder / "accuracy.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    values = np.array([[float(cell) for cell in row[2:]] for row in rows])
    tasks = len(header) - 2
    return values.reshape(-1, tasks + 1, tasks)


def make_method(name: str, config_dir: str | None = None, overrides: Sequence[str] = ()) -> Method:
    """The method of this name with the settings of its yaml.

    config_dir, overrides: as of `run`, such as "method.margin=0" or "plugins=[half]". Raises
    UserError where there is no such method, or a value is out of its domain.
    """
    require(isinstance(name, str), "method", "a name or a Method", name)
    check_overrides_and_config_dir(overrides, config_dir)
    config = compose_config(CONF, [f"method={name}", *overrides], config_dir).settings["method"]
    method: Method = call_target("method", OmegaConf.create(config))
    return method


def direction(method: str | Method, g: Tensor, references: Tensor) -> Tensor:
    """The direction [P] that a method in its initial state makes of the gradient g [P] on the batch
    and the gradients [M, P] on memory; the optimizer steps against it.

    method: a method, or the name of one with the settings of its yaml. Raises UserError where M is
    not what the method reads: none, one, or one for each earlier task.
    """
    built = method if isinstance(method, Method) else make_method(method)
    for field, tensor in (("g", g), ("references", references)):
        is_float = isinstance(tensor, Tensor) and tensor.is_floating_point()
        kind = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
        require(is_float and tensor.dtype == g.dtype, field, "a tensor of floats as `g` is", kind)
    fits = references.ndim == 2 and references.shape[1:] == g.shape and g.ndim == 1 and len(g) > 0
    shapes = [list(g.shape), list(references.shape)]
    require(fits, "references", "a matrix [M, P] beside a gradient [P]", shapes)
    count = len(references)
    usual = built.reference_count(count)
    least = min(1, built.reference_count(1))
    usual = max(usual, least)
    require(count == usual or not usual, "references", f"{usual} rows for this method", count)
    gradients = make_gradients(g, references if usual else references[:0])
    setup = MethodSetup(g, count + 1, 2, gradients.layers)
    aligned: Tensor = built.align(gradients, built.init(setup))[0]
    return aligned
