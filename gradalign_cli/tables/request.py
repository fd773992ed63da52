"""What a user asks of a table, and what refuses it before anything is trained or written."""

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from gradalign_cli.composition.datasets import require_datasets
from gradalign_cli.composition.parts import check_part_settings
from gradalign_cli.composition.settings import choose_device
from gradalign_cli.errors import UserError, did_you_mean, require
from gradalign_cli.tables.results import possible_metrics
from gradalign_cli.tables.table import Cell, Table

MOST_SEEDS = 1000  # of a cell
ALLOWED_OVERRIDES = (  # they change results by rounding at most; see run_key for `threads`
    "hydra/launcher=",
    "hydra.launcher.",
    "device=",
    "engine=",
    "threads=",
    "data_dir=",
    "memory_budget=",
    "report=",
)


class Request(NamedTuple):
    """What the user asks of a table.

    cell_pattern:         a shell pattern of the names of cells.
    seed_count:           every cell is trained with the seeds 0, 1, ... of this number.
    budget_minutes:       a run is not started if by its estimate it would end later; 0 starts no
                          run, None sets no limit.
    quick:                whether to train small runs, which are not judged.
    parallel_runs:        how many runs train at the same time.
    finished_run_folders: folders of finished runs to use besides those of the table.
    overrides:            overrides for every run, see `checked_overrides`.
    train_command:        the command that trains when overrides are added to it.
    """

    cell_pattern: str
    seed_count: int
    budget_minutes: float | None
    quick: bool
    parallel_runs: int
    finished_run_folders: tuple[Path, ...]
    overrides: tuple[str, ...]
    train_command: tuple[str, ...]

    def names_launcher(self) -> bool:
        """Whether the overrides name a launcher, which may train on other machines."""
        return any(override.startswith("hydra/launcher=") for override in self.overrides)


def checked_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides for every run of a table. Raises UserError where one would change results."""
    for override in overrides:
        if not override.startswith(ALLOWED_OVERRIDES):
            names = [name.rstrip("=.") for name in ALLOWED_OVERRIDES]
            suggestion = did_you_mean(override.partition("=")[0], names)
            raise UserError(
                f"`{override}` is none of the overrides that a table takes, as others may change "
                f"what its runs compute{suggestion or '; it takes ' + ', '.join(names)}"
            )
    return tuple(overrides)


def requested_table(table: Table, request: Request) -> Table:
    """The table with the requested cells alone. Raises UserError where the request is not valid."""
    seeds_fit = 0 < request.seed_count <= MOST_SEEDS
    require(seeds_fit, "--seeds", f"positive, at most {MOST_SEEDS}", request.seed_count)
    require(request.parallel_runs > 0, "--at-once", "positive", request.parallel_runs)
    budget = request.budget_minutes
    require(budget is None or budget >= 0, "--budget", "non-negative", budget)
    for folder in request.finished_run_folders:
        require(os.path.isdir(folder), "--from", "folders of finished runs", str(folder))
    pattern = request.cell_pattern
    cells = tuple(cell for cell in table.cells if cell.name == pattern)  # it may have brackets
    cells = cells or tuple(cell for cell in table.cells if fnmatch(cell.name, pattern))
    if not cells:
        names = [cell.name for cell in table.cells]
        suggestion = did_you_mean(pattern.strip("*"), names) or f", such as {names[0]!r}"
        raise UserError(f"`--cells` {pattern!r} is the name of no cell{suggestion}")
    return table._replace(cells=cells)


def check_cell(cell: Cell, config: dict[str, Any], quick: bool) -> None:
    """Raise UserError where the runs of a cell would have settings that are none of its parts',
    several replicas of a seed, or, unless they are quick ones, not the metrics of its rows."""
    for name, values in config["replicas"].items():
        is_one = name == "seed" or not isinstance(values, list) or len(values) == 1
        require(is_one, f"{cell.name}: replicas.{name}", "one number in a table", values)
    lacking = sorted({*cell.published, *cell.unpublished_metrics} - possible_metrics(config))
    if lacking and not quick:
        raise UserError(
            f"`{cell.name}` lists {lacking[0]}, which its runs do not have: see "
            "metrics.lca_batches, metrics.continual_every and benchmark.scenario"
        )
    try:
        check_part_settings(OmegaConf.create(config))
    except UserError as error:
        raise UserError(f"{cell.name}: {error}") from error


def check_can_train_here(config: dict[str, Any]) -> None:
    """Download the dataset of a run where it is not on this machine. Raises UserError where it
    cannot be had, or where the device is none of this machine."""
    created = OmegaConf.create(config)
    choose_device(created)
    require_datasets(created)
