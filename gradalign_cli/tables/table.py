"""A paper's table: its cells with published numbers, the runs they need and their tolerances."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError, did_you_mean, require
from gradalign_cli.tables.entries import CELL_ENTRIES, TABLE_ENTRIES, check_entries
from gradalign_cli.tables.table_file import read_table_file

# a published number was read in a text of its authors, read in a text of others, or remembered
STATUSES = ("VERIFIED", "VERIFIED-2ND", "MEMORY")
JUDGED_STATUSES = STATUSES[:2]  # a number from memory is shown and not judged


class Cell(NamedTuple):
    """A cell of a table: one method in one setting.

    name: `SETTING, METHOD`, or the method alone where a table has one setting.
    overrides: the overrides of `gradalign train` that compute the cell; empty where it cannot be
    computed.
    missing_requirement: what is missing to compute the cell, None where nothing is.
    published: the published value of each metric, as a fraction.
    published_status: where the published values come from, one of STATUSES.
    tolerance: for each metric the largest difference that counts as reproduced.
    tolerance_reason: why the tolerance is as large as it is.
    minutes_per_seed: on two CPU cores, None where that was not measured.
    known_deviation: why our value is known to lie outside the tolerance; it changes no verdict.
    published_std: the standard deviation of published values over the paper's runs, with n - 1 in
    the divisor, as fractions; for those metrics of which it is known.
    published_runs: the number of the paper's runs, None where it is not known.
    unpublished_metrics: those that the paper does not print, to be shown beside those that it does.
    """

    name: str
    overrides: tuple[str, ...]
    missing_requirement: str | None
    published: dict[str, float]
    published_status: str
    tolerance: dict[str, float]
    tolerance_reason: str
    minutes_per_seed: float | None
    known_deviation: str = ""
    published_std: Mapping[str, float] = MappingProxyType({})
    published_runs: int | None = None
    unpublished_metrics: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table of a paper.

    name:          the name of its yaml.
    title:         paper and number of the table.
    source:        where the published numbers were read.
    differences:   sentences on what is known to differ from the paper.
    ranks_methods: whether the methods are ranked over the settings.
    cells:         all cells, in the order of the yaml.
    """

    name: str
    title: str
    source: str
    differences: tuple[str, ...]
    ranks_methods: bool
    cells: tuple[Cell, ...]


def setting_and_method(cell_name: str) -> tuple[str, str]:
    """The setting and the method of a cell named `SETTING, METHOD`. The setting is empty where the
    name is a method alone."""
    setting, _, method = cell_name.rpartition(", ")
    return setting, method


def table_names(shipped_conf_folder: Path) -> list[str]:
    """The names of all tables in the folder of configs."""
    return sorted(path.stem for path in (shipped_conf_folder / "table").glob("*.yaml"))


def load_table(shipped_conf_folder: Path, name: str) -> Table:
    """The table of this name. Raises UserError where it is unknown or its yaml is not valid."""
    names = table_names(shipped_conf_folder)
    if name not in names:
        suggestion = did_you_mean(name, names) or f"; there are {', '.join(names)}"
        raise UserError(f"`TABLE` {name!r} is unknown{suggestion}")
    return parse_table(name, read_table_file(shipped_conf_folder / "table" / f"{name}.yaml"))


def parse_table(name: str, entries: dict[str, Any]) -> Table:
    """The table with these entries of its yaml. Raises UserError where they are not valid."""
    check_entries(name, entries, TABLE_ENTRIES, ("title", "source", "cells"))
    labels = [str(label) for label in entries["cells"]]  # yaml tells 3 from "3"
    distinct = len({*labels}) == len(labels)
    require(distinct, f"{name}.cells", "a mapping of names without repetitions", labels)
    cells = tuple(
        parse_cell(f"{name}.cells.{label}", label, cell_entries, entries)
        for label, cell_entries in zip(labels, entries["cells"].values(), strict=True)
    )
    differences = tuple(entries.get("differences", []))
    ranks_methods = bool(entries.get("ranked", False))
    return Table(name, entries["title"], entries["source"], differences, ranks_methods, cells)


def parse_cell(
    field_path: str, name: str, cell_entries: dict[str, Any], table_entries: dict[str, Any]
) -> Cell:
    """The cell with these entries. Entries of the table hold for all cells that have none of their
    own; overrides and tolerances of both are joined.

    field_path: where the cell stands in the yaml, for errors. Raises UserError where an entry is
    unknown or not valid.
    """
    check_entries(field_path, cell_entries, CELL_ENTRIES, ("published",))
    status: Any = cell_entries.get("status", table_entries.get("status"))
    require(status in STATUSES, f"{field_path}.status", f"one of {', '.join(STATUSES)}", status)
    tolerance = table_entries.get("tolerance", {}) | cell_entries.get("tolerance", {})
    published = {metric: float(value) for metric, value in cell_entries["published"].items()}
    overrides, needs = cell_entries.get("overrides"), cell_entries.get("needs")
    if (overrides is None) == (needs is None):
        raise UserError(f"`{field_path}` must have either `overrides` or `needs`")
    if status in JUDGED_STATUSES and needs is None:
        for metric in published:
            require(metric in tolerance, f"{field_path}.tolerance.{metric}", "given", None)
    unpublished_metrics = parse_unpublished_metrics(field_path, cell_entries)
    if needs is None and not (published or unpublished_metrics):
        raise UserError(f"`{field_path}` must list a metric in `published` or in `unpublished`")
    spread = parse_spread(field_path, cell_entries, table_entries)
    return Cell(
        name,
        () if overrides is None else (*table_entries.get("overrides", []), *overrides),
        needs,
        published,
        status,
        tolerance,
        cell_entries.get("reason", table_entries.get("reason", "")),
        cell_entries.get("minutes"),
        cell_entries.get("explained", ""),
        spread.published_std,
        spread.published_runs,
        unpublished_metrics,
    )


class PublishedSpread(NamedTuple):
    """How far a cell's published values spread over the paper's runs, see `Cell`."""

    published_runs: int | None
    published_std: dict[str, float]


def parse_spread(
    field_path: str, cell_entries: dict[str, Any], table_entries: dict[str, Any]
) -> PublishedSpread:
    """The spread of the cell with these entries; see `parse_cell`."""
    published = cell_entries["published"].keys()
    std = {metric: float(value) for metric, value in cell_entries.get("std", {}).items()}
    runs = cell_entries.get("runs", table_entries.get("runs"))
    for metric in std:
        require(metric in published, f"{field_path}.std", "of published metrics", metric)
    several = isinstance(runs, int) and runs > 1
    require(
        several or not std, f"{field_path}.runs", "a whole number of at least 2 beside std", runs
    )
    return PublishedSpread(runs, std)


def parse_unpublished_metrics(field_path: str, cell_entries: dict[str, Any]) -> tuple[str, ...]:
    """The metrics of the cell with these entries that the paper does not print."""
    metrics = tuple(cell_entries.get("unpublished", ()))
    for number, metric in enumerate(metrics):
        if metric in cell_entries["published"] or metric in metrics[:number]:
            raise UserError(
                f"`{field_path}.unpublished` must not have {metric}, which is there already"
            )
    return metrics
