"""`gradalign reproduce TABLE`: train what a table needs and print published numbers beside ours.

Finished runs are not repeated and interrupted ones go on, so a table can be stopped at any moment
and continued by the same command.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from gradalign_cli.errors import UserError, counted, require
from gradalign_cli.files.reading import read_json
from gradalign_cli.files.writing import make_folder
from gradalign_cli.results.sweep_folder import is_finished
from gradalign_cli.tables.missing_runs import (
    MissingRun,
    finished_seeds,
    missing_runs,
    train_missing_any_failed,
)
from gradalign_cli.tables.ranks import method_ranks
from gradalign_cli.tables.request import (
    Request,
    check_can_train_here,
    check_cell,
    requested_table,
)
from gradalign_cli.tables.results import (
    Result,
    compose_cell,
    merged_result,
    results_by_key,
    run_folders,
    run_key,
)
from gradalign_cli.tables.table import Cell, Table, load_table
from gradalign_cli.tables.verdict import paired_comparisons, table_rows
from gradalign_cli.tables.writing import WRITTEN_FILES, score_text, terminal_table, write_table

LARGEST_TABLE_JSON = 2**26  # bytes


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
    # Hydra would look up what stands in the braces
    require(
        "${" not in f"{output_folder}", "--out", "a folder without ${ in it", f"{output_folder}"
    )
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


def warn_of_empty_folders(finished_run_folders: Sequence[Path]) -> None:
    """Warn of each folder that is to bring finished runs and has none."""
    for folder in finished_run_folders:
        if not any(map(is_finished, run_folders(folder))):
            warnings.warn(f"--from {folder} holds no finished run", stacklevel=1)


def require_writable(table_folder: Path) -> None:
    """Make the folder of a table and of its runs where there is none. Raises UserError where
    nothing can be written to them."""
    for folder in (table_folder, table_folder / "runs"):
        make_folder(folder)
        require(os.access(folder, os.W_OK), "--out", "a folder that can be written to", str(folder))
    for name in WRITTEN_FILES:
        if (table_folder / name).is_dir():
            raise UserError(f"{table_folder / name} must be a file, found a folder")


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
        length += f", {counted(unmeasured, 'run')} not measured yet" if unmeasured else ""
    console.print(
        f"{table.title}: {counted(len(table.cells), 'cell')}, {runnable_cell_count} can be run, "
        f"{len(runs)} still to run" + (f" ({length})" if runs and not request.quick else ""),
        soft_wrap=True,
    )
    if runs and request.budget_minutes == 0:
        console.print("nothing is started, as --budget is 0")


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
