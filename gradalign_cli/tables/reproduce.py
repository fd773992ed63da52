"""`gradalign reproduce TABLE`: train what a table needs and print published numbers beside ours.

Every cell is one `gradalign train` with its seeds as replicas, in a folder named by what the cell
computes. Finished runs are not repeated and interrupted ones start again, so a table can be stopped
at any moment and continued by the same command.
"""

import itertools
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.composition.datasets import require_datasets
from gradalign_cli.composition.settings import choose_device
from gradalign_cli.errors import UserError, counted, did_you_mean, require
from gradalign_cli.files.folder_override import folder_override
from gradalign_cli.files.reading import read_json
from gradalign_cli.files.writing import make_folder
from gradalign_cli.results.sweep_folder import is_finished
from gradalign_cli.tables.ranks import method_ranks
from gradalign_cli.tables.results import (
    QUICK_OVERRIDES,
    Result,
    compose_cell,
    merged_result,
    possible_metrics,
    read_key_and_result,
    results_by_key,
    run_key,
)
from gradalign_cli.tables.run_lines import RunLines
from gradalign_cli.tables.table import Cell, Table, load_table
from gradalign_cli.tables.verdict import paired_comparisons, table_rows
from gradalign_cli.tables.writing import WRITTEN_FILES, score_text, terminal_table, write_table

MOST_SEEDS = 1000  # of a cell
LARGEST_TABLE_JSON = 2**26  # bytes
ALLOWED_OVERRIDES = (  # they change results by rounding at most; see run_key for `threads`
    "hydra/launcher=",
    "hydra.launcher.",
    "device=",
    "engine=",
    "threads=",
    "data_dir=",
    "memory_budget=",
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


class MissingRun(NamedTuple):
    """A run that a cell still needs: its folder, and the seeds that no finished run has."""

    cell: Cell
    folder: Path
    seeds: tuple[int, ...]

    def estimated_minutes(self) -> float | None:
        """Minutes on two CPU cores, None where the cell was not measured."""
        return (
            None
            if self.cell.minutes_per_seed is None
            else self.cell.minutes_per_seed * len(self.seeds)
        )


def reproduce(
    shipped_conf_folder: Path,
    table_name: str,
    request: Request,
    output_folder: Path,
    console: Console,
) -> int:
    """Train the missing runs of the requested cells, print these and write the whole table to a
    folder of its name. Returns the exit code: 1 where a run failed.

    Raises UserError where the request is not valid.
    """
    table = load_table(shipped_conf_folder, table_name)
    requested = requested_table(table, request)
    runnable = [cell for cell in requested.cells if cell.missing_requirement is None]
    config_of_cell = {
        cell.name: compose_cell(shipped_conf_folder, cell, request.quick, request.overrides)
        for cell in runnable
    }
    for cell in runnable:
        check_cell(cell, config_of_cell[cell.name], request.quick)
    key_of_cell = {name: run_key(config) for name, config in config_of_cell.items()}
    folder = output_folder / (table_name + "-quick" * request.quick)
    finished_run_folders = (folder / "runs", *request.finished_run_folders)
    warn_of_empty_folders(request.finished_run_folders)
    runs = missing_runs(
        runnable, key_of_cell, results_by_key(finished_run_folders), request, folder
    )
    if request.budget_minutes != 0:
        for run in () if request.names_launcher() else runs:
            check_can_train_here(config_of_cell[run.cell.name])
    announce_runs(requested, runs, len(runnable), request, console)
    require_writable(folder)

    def is_finished_by_another(run: MissingRun) -> bool:
        results = results_by_key([run.folder]).get(key_of_cell[run.cell.name], [])
        return set(run.seeds) <= finished_seeds(run.cell, results, request)

    try:
        any_failed = train_missing_any_failed(runs, is_finished_by_another, request, console)
    except KeyboardInterrupt as stop:
        stop.add_note("the same command goes on with the runs that are missing")
        raise
    results_of_key = results_by_key(finished_run_folders)
    if results_of_key.keys() - key_of_cell.values():  # of cells that were not requested
        key_of_cell |= keys_of_other_cells(shipped_conf_folder, table, key_of_cell, request)
    result_of_cell = {
        name: result
        for name, key in key_of_cell.items()
        if (result := merged_result(results_of_key.get(key, [])))
    }
    print_and_write_table(table, requested.cells, result_of_cell, request, folder, console)
    return 1 if any_failed else 0


def keys_of_other_cells(
    shipped_conf_folder: Path, table: Table, key_of_cell: Mapping[str, str], request: Request
) -> dict[str, str]:
    """The keys of the cells that were not requested, by name, without those that a user's table
    spells wrongly: they have no runs."""
    keys = {}
    for cell in table.cells:
        if cell.missing_requirement is None and cell.name not in key_of_cell:
            with suppress(UserError):
                config = compose_cell(shipped_conf_folder, cell, request.quick, request.overrides)
                keys[cell.name] = run_key(config)
    return keys


def check_cell(cell: Cell, config: dict[str, Any], quick: bool) -> None:
    """Raise UserError where the runs of a cell would have several replicas of a seed, or, unless
    they are quick ones, not the metrics that are published."""
    for name, values in config["replicas"].items():
        is_one = name == "seed" or not isinstance(values, list) or len(values) == 1
        require(is_one, f"{cell.name}: replicas.{name}", "one number in a table", values)
    lacking = sorted(cell.published.keys() - possible_metrics(config))
    if lacking and not quick:
        raise UserError(
            f"`{cell.name}` has {lacking[0]} published, which its runs do not have: see "
            "metrics.lca_batches, metrics.continual_every and benchmark.scenario"
        )


def check_can_train_here(config: dict[str, Any]) -> None:
    """Download the dataset of a run where it is not on this machine. Raises UserError where it
    cannot be had, or where the device is none of this machine."""
    created = OmegaConf.create(config)
    choose_device(created)
    require_datasets(created)


def require_writable(table_folder: Path) -> None:
    """Make the folder of a table and of its runs where there is none. Raises UserError where
    nothing can be written to them."""
    for folder in (table_folder, table_folder / "runs"):
        make_folder(folder)
        require(os.access(folder, os.W_OK), "--out", "a folder that can be written to", str(folder))
    for name in WRITTEN_FILES:
        if (table_folder / name).is_dir():
            raise UserError(f"{table_folder / name} must be a file, found a folder")


def set_aside_if_damaged(run_folder: Path) -> None:
    """Rename the folder of a finished run whose files are not those of a run: what is in it may
    still be of use, and another run is to take its place."""
    if not is_finished(run_folder):
        return
    try:
        read_key_and_result(run_folder)
    except UserError:
        aside = next(
            path
            for number in itertools.count(1)
            if not (path := run_folder.with_name(f"{run_folder.name}_damaged_{number}")).exists()
        )
        run_folder.rename(aside)
        warnings.warn(f"{run_folder} is damaged and kept as {aside.name}", stacklevel=1)


def requested_table(table: Table, request: Request) -> Table:
    """The table with the requested cells alone. Raises UserError where the request is not valid."""
    seeds_fit = 0 < request.seed_count <= MOST_SEEDS
    require(seeds_fit, "--seeds", f"positive, at most {MOST_SEEDS}", request.seed_count)
    require(request.parallel_runs > 0, "--at-once", "positive", request.parallel_runs)
    budget = request.budget_minutes
    require(budget is None or budget >= 0, "--budget", "non-negative", budget)
    for folder in request.finished_run_folders:
        require(os.path.isdir(folder), "--from", "folders of finished runs", str(folder))
    cells = tuple(cell for cell in table.cells if fnmatch(cell.name, request.cell_pattern))
    if not cells:
        names = [cell.name for cell in table.cells]
        suggestion = (
            did_you_mean(request.cell_pattern.strip("*"), names) or f", such as {names[0]!r}"
        )
        raise UserError(f"`--cells` {request.cell_pattern!r} is the name of no cell{suggestion}")
    return table._replace(cells=cells)


def warn_of_empty_folders(finished_run_folders: Sequence[Path]) -> None:
    """Warn of each folder that is to bring finished runs and has none."""
    for folder in finished_run_folders:
        if not any((path / "accuracy.csv").is_file() for path in (folder, *folder.glob("*"))):
            warnings.warn(f"--from {folder} holds no finished run", stacklevel=1)


def missing_runs(
    cells: Sequence[Cell],
    key_of_cell: dict[str, str],
    results_of_key: dict[str, list[Result]],
    request: Request,
    table_folder: Path,
) -> list[MissingRun]:
    """The runs that cells still need, each with a folder of its own in the table's folder.

    key_of_cell: by the cell's name;  results_of_key: of finished runs.
    """
    runs = []
    for cell in cells:
        finished = finished_seeds(cell, results_of_key.get(key_of_cell[cell.name], []), request)
        seeds = tuple(seed for seed in range(request.seed_count) if seed not in finished)
        if seeds:
            name = f"{key_of_cell[cell.name]}_seeds_{'_'.join(map(str, seeds))}"
            runs.append(MissingRun(cell, table_folder / "runs" / name, seeds))
    return runs


def finished_seeds(cell: Cell, results: Sequence[Result], request: Request) -> set[int]:
    """The seeds of a cell that need no run. A seed whose run lacks a metric that the paper prints,
    as runs of earlier versions may, needs one. Quick runs may lack metrics.

    results: of the cell's finished runs.
    """
    result = merged_result(results)
    needed_metrics = set() if request.quick else cell.published.keys()
    metrics_of_seed = {} if result is None else result.seeds
    return {seed for seed, metrics in metrics_of_seed.items() if needed_metrics <= metrics.keys()}


def announce_runs(
    table: Table,
    runs: Sequence[MissingRun],
    runnable_cell_count: int,
    request: Request,
    console: Console,
) -> None:
    """Print how many runs will train and how long they may take.

    runnable_cell_count: the number of cells that can be computed.
    """
    estimates = [minutes for run in runs if (minutes := run.estimated_minutes()) is not None]
    unmeasured = len(runs) - len(estimates)
    length = "of unknown length"
    if estimates:
        minutes = max(1, round(sum(estimates)))
        length = f"about {counted(minutes, 'minute')} on two CPU cores"
        length += f", {unmeasured} of them not measured yet" if unmeasured else ""
    console.print(
        f"{table.title}: {counted(len(table.cells), 'cell')}, {runnable_cell_count} can be run, "
        f"{len(runs)} still to run" + (f" ({length})" if runs and not request.quick else ""),
        soft_wrap=True,
    )
    if runs and request.budget_minutes == 0:
        console.print("nothing is started, as --budget is 0")


def train_missing_any_failed(
    runs: Sequence[MissingRun],
    is_finished_by_another: Callable[[MissingRun], bool],
    request: Request,
    console: Console,
) -> bool:
    """Train the runs, `request.parallel_runs` at a time; returns whether one failed. A failure does
    not stop the others.

    is_finished_by_another: whether a run that was missing is there now, when its turn comes.

    The runs end with this process, see leash.py: a run that went on would write to the same folder
    as the run that replaces it.
    """
    if request.budget_minutes == 0:
        return False
    begin, interrupted = time.monotonic(), threading.Event()
    lines = RunLines(console)
    read_end, write_end = os.pipe()
    environment = run_environment(os.environ, min(request.parallel_runs, len(runs)))

    def train_run(run: MissingRun) -> bool:
        """Whether the run did not fail; one that need not or may not start did not."""
        if is_finished_by_another(run):
            console.print(f"{run.cell.name}: was finished meanwhile", soft_wrap=True)
            return True
        elapsed_minutes = (time.monotonic() - begin) / 60
        end_minutes = elapsed_minutes + (run.estimated_minutes() or 0)
        if request.budget_minutes is not None and end_minutes > request.budget_minutes:
            left = max(0, request.budget_minutes - elapsed_minutes)
            sentence = f"not started, it would end after the budget ({left:.1f} minutes are left)"
            console.print(f"{run.cell.name}: {sentence}", soft_wrap=True)
            return True
        set_aside_if_damaged(run.folder)
        lines.begin(run.cell.name, None if request.quick else run.estimated_minutes())
        process = subprocess.run(
            [*request.train_command, *train_arguments(run, request)],
            stdin=read_end,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        failure = failure_message(process.stderr) if process.returncode else None
        if not interrupted.is_set():
            lines.end(run.cell.name, failure)
        return process.returncode == 0

    with lines, ThreadPoolExecutor(request.parallel_runs) as pool:
        try:
            return not all(list(pool.map(train_run, runs)))
        except KeyboardInterrupt:
            interrupted.set()
            raise
        finally:
            os.close(write_end)
            os.close(read_end)


def failure_message(stderr: str) -> str:
    """The last line of stderr that is gradalign's own, or else the last line: a launcher adds lines
    after it."""
    lines = stderr.strip().splitlines() or ["no message"]
    return ([line for line in lines if line.startswith("gradalign: ")] or lines)[-1]


def run_environment(environment: Mapping[str, str], parallel_runs: int) -> dict[str, str]:
    """The environment of each of several runs at a time: their threads share the CPU cores, unless
    the environment sets OMP_NUM_THREADS. More threads than cores would wait for each other."""
    threads = str(max(1, (os.cpu_count() or 1) // max(1, parallel_runs)))
    return ({"OMP_NUM_THREADS": threads} if parallel_runs > 1 else {}) | dict(environment)


def train_arguments(run: MissingRun, request: Request) -> list[str]:
    """The arguments of `gradalign train` for a run. Hydra starts a launcher for sweeps alone, so
    with a launcher the run is a sweep of one."""
    quick = QUICK_OVERRIDES * request.quick
    seeds = f"replicas.seed=[{','.join(map(str, run.seeds))}]"
    # a finished run that is there lacks a metric, or is of a version with other numbers; one that
    # another process finishes from now on stays; an unfinished one goes on
    overrides = [
        *run.cell.overrides,
        *quick,
        seeds,
        *request.overrides,
        f"overwrite={str(is_finished(run.folder)).lower()}",
        "resume=auto",
        "save=none",
    ]
    if request.names_launcher():
        folder = [folder_override("hydra.sweep.dir", run.folder.parent)]
        folder.append(f"hydra.sweep.subdir={run.folder.name}")
        return ["-m", *overrides, *folder]
    return [*overrides, folder_override("hydra.run.dir", run.folder)]


def print_and_write_table(
    table: Table,
    requested_cells: Sequence[Cell],
    result_of_cell: dict[str, Result],
    request: Request,
    folder: Path,
    console: Console,
) -> None:
    """Print the requested cells and write the whole table in every form to a folder.

    result_of_cell: by the name of the cell. Quick runs are neither compared nor ranked.
    """
    rows_by_cell = {
        cell.name: table_rows(cell, result_of_cell.get(cell.name), request.quick)
        for cell in table.cells
    }
    rows = [row for rows in rows_by_cell.values() for row in rows]
    requested_rows = [row for cell in requested_cells for row in rows_by_cell[cell.name]]
    results_as_mappings = {name: result._asdict() for name, result in result_of_cell.items()}
    warn_of_lost_numbers(folder, result_of_cell)
    if request.quick:
        table = table._replace(title=f"{table.title}: a quick run, not the paper's setting")
    comparisons = [] if request.quick else paired_comparisons(result_of_cell, "ACC")
    ranks = None if request.quick else method_ranks(table, result_of_cell, "ACC")
    write_table(table, rows, comparisons, ranks, results_as_mappings, folder)
    console.print(terminal_table(table, requested_rows))
    console.print(
        score_text(requested_rows) + (" (a quick run is not judged)" if request.quick else "")
    )
    console.print(f"written to {folder}", soft_wrap=True)


def warn_of_lost_numbers(folder: Path, result_of_cell: Mapping[str, Result]) -> None:
    """Warn of the cells that the table in a folder has numbers of and will have none of."""
    try:
        earlier = read_json(folder / "table.json", LARGEST_TABLE_JSON)["results"].keys()
    except (OSError, UserError, KeyError, TypeError, AttributeError):  # there is none, or damaged
        return
    lost = sorted(earlier - result_of_cell.keys())
    if lost:
        sentence = f"the numbers of {counted(len(lost), 'cell')} leave the table, {lost[0]!r} first"
        warnings.warn(f"{sentence}: their runs are not found now, see --from", stacklevel=1)


def checked_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides for every run of a table. Raises UserError where one would change results."""
    for override in overrides:
        if not override.startswith(ALLOWED_OVERRIDES):
            raise UserError(
                f"`{override}` would change what the table's runs compute; hydra/launcher, device, "
                "engine, threads, data_dir and memory_budget can be given"
            )
    return tuple(overrides)
