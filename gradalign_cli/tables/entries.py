"""The entries that a table's yaml may have, with the type and range of each."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError, require

METRIC = re.compile(  # the names that metrics.json may have
    r"(ACC|BWT|FWT|forgetting|LA|AAA|LCA\d+)(_task)?|min_ACC|WC_ACC|stability_gap"
)
METRIC_EXAMPLES = "ACC, BWT, FWT, forgetting, LA, AAA, LCA10, min_ACC or the like"


class Entry(NamedTuple):
    """domain: what values are valid, in words;  is_valid: whether a value is."""

    domain: str
    is_valid: Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Whether the value is text."""
    return isinstance(value, str)


def is_minute_count(value: Any) -> bool:
    """Whether the value is a number of minutes, at most two years of them."""
    return type(value) in (int, float) and 0 <= value <= 2**20


def is_run_count(value: Any) -> bool:
    """Whether the value is a number of runs, or none is told."""
    return value is None or (type(value) is int and 1 <= value <= 2**20)


def is_metric(name: Any) -> bool:
    """Whether the value is the name of a metric."""
    return isinstance(name, str) and METRIC.fullmatch(name) is not None


def is_metric_list(value: Any) -> bool:
    """Whether the value is a list of names of metrics."""
    return isinstance(value, list) and all(is_metric(name) for name in value)


def is_text_list(value: Any) -> bool:
    """Whether the value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def is_signed_fraction_mapping(value: Any) -> bool:
    """Whether the value is a mapping of metrics to fractions, which may be negative."""
    return isinstance(value, dict) and all(
        is_metric(name) and type(number) in (int, float) and -1 <= number <= 1
        for name, number in value.items()
    )


def is_tolerance_mapping(value: Any) -> bool:
    """Whether the value is a mapping of metrics to fractions that are not negative."""
    return is_signed_fraction_mapping(value) and min(value.values(), default=0) >= 0


def is_run_override_list(value: Any) -> bool:
    """Whether the value is a list of settings of a run. An option of the command line, or a setting
    of Hydra, says how and where a run is started, and is none."""
    return is_text_list(value) and not any(
        text.startswith("-") or text.lstrip("+~ ").startswith("hydra") for text in value
    )


def is_mapping_of_mappings(value: Any) -> bool:
    """Whether the value is a mapping of names, at least one and none empty, to mappings."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(str(name).strip() and isinstance(cell, dict) for name, cell in value.items())
    )


TEXT = Entry("text", is_text)
FRACTIONS = Entry(
    f"a mapping of metrics ({METRIC_EXAMPLES}) to fractions from -1 to 1",
    is_signed_fraction_mapping,
)
TOLERANCES = Entry("a mapping of metrics to fractions from 0 to 1", is_tolerance_mapping)
OVERRIDES = Entry("a list of settings of a run, and none of hydra", is_run_override_list)
RUNS = Entry("a whole number from 1 to 2^20, or null", is_run_count)
CELL_ENTRIES = {
    "overrides": OVERRIDES,
    "needs": TEXT,
    "published": FRACTIONS,
    "std": FRACTIONS,
    "runs": RUNS,
    "unpublished": Entry("a list of metrics", is_metric_list),
    "status": TEXT,
    "tolerance": TOLERANCES,
    "reason": TEXT,
    "minutes": Entry("a number of minutes", is_minute_count),
    "explained": TEXT,
}
TABLE_ENTRIES = {
    "title": TEXT,
    "source": TEXT,
    "status": TEXT,
    "tolerance": TOLERANCES,
    "reason": TEXT,
    "runs": RUNS,
    "overrides": OVERRIDES,
    "differences": Entry("a list of sentences", lambda value: isinstance(value, list)),
    "ranked": Entry("true or false", lambda value: isinstance(value, bool)),
    "cells": Entry(
        "a mapping of names, at least one and none empty, to mappings", is_mapping_of_mappings
    ),
}


def check_entries(
    field_path: str,
    entries: Mapping[str, Any],
    valid_entries: Mapping[str, Entry],
    required_names: Sequence[str],
) -> None:
    """Raise UserError where an entry is unknown, not valid, or needed and not there.

    field_path: where the entries stand in the yaml.
    """
    for name, value in entries.items():
        if name not in valid_entries:
            known = ", ".join(valid_entries)
            raise UserError(f"`{field_path}.{name}` is not known; known are {known}")
        entry = valid_entries[name]
        require(entry.is_valid(value), f"{field_path}.{name}", entry.domain, value)
    for name in required_names:
        if name not in entries:
            raise UserError(f"`{field_path}.{name}` must be there, {valid_entries[name].domain}")
