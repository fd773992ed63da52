"""The entries that a table's yaml may have, with the type and range of each."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradalign_cli.errors import UserError, require
from gradalign_cli.results.run_files import is_possible

METRIC = re.compile(  # the names that metrics.json may have
    r"(ACC|BWT|FWT|forgetting|LA|AAA|LCA\d+)(_task)?|min_ACC|WC_ACC|stability_gap"
)
METRIC_EXAMPLES = "ACC, BWT, FWT, forgetting, LA, AAA, LCA10, min_ACC or the like"
SETTINGS_OF_REPRODUCE = (  # which `reproduce` or its user chooses
    "quick",
    "replicas",
    "replicas.seed",
    "overwrite",
    "resume",
    "save",
    "skip_finished",
    "data_dir",
)


class Entry(NamedTuple):
    """domain: what values are valid, in words;  is_valid: whether a value is."""

    domain: str
    is_valid: Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Whether the value is text in one line, as it becomes a line or a cell of a table."""
    return isinstance(value, str) and value.isprintable()


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
    return isinstance(value, list) and all(map(is_text, value))


def is_fraction_mapping(value: Any) -> bool:
    """Whether the value is a mapping of metrics to values that they can have."""
    return isinstance(value, dict) and all(
        is_metric(name) and type(number) in (int, float) and is_possible(name, number)
        for name, number in value.items()
    )


def is_unsigned_mapping(value: Any) -> bool:
    """Whether the value is a mapping of metrics to fractions that are not negative."""
    return is_fraction_mapping(value) and min(value.values(), default=0) >= 0


def is_run_override_list(value: Any) -> bool:
    """Whether the value is a list of settings that say what a run computes. An option of the
    command line and a setting of Hydra are none, nor is what `reproduce` chooses itself."""
    names = [text.lstrip("+~ ").partition("=")[0] for text in value] if is_text_list(value) else []
    return is_text_list(value) and not any(
        name.startswith(("-", "hydra")) or name in SETTINGS_OF_REPRODUCE for name in names
    )


def is_mapping_of_mappings(value: Any) -> bool:
    """Whether the value is a mapping of names in one line, at least one and none empty, to
    mappings."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(str(name).strip() and is_text(str(name)) for name in value)
        and all(isinstance(cell, dict) for cell in value.values())
    )


TEXT = Entry("text in one line", is_text)
FRACTIONS = Entry(
    f"a mapping of metrics ({METRIC_EXAMPLES}) to fractions that they can have", is_fraction_mapping
)
UNSIGNED_FRACTIONS = Entry("a mapping of metrics to fractions from 0 to 1", is_unsigned_mapping)
OVERRIDES = Entry(
    "a list of settings of what a run computes, and none of hydra or of "
    f"{', '.join(SETTINGS_OF_REPRODUCE)}",
    is_run_override_list,
)
RUNS = Entry("a whole number from 1 to 2^20, or null", is_run_count)
CELL_ENTRIES = {
    "overrides": OVERRIDES,
    "needs": TEXT,
    "published": FRACTIONS,
    "std": UNSIGNED_FRACTIONS,
    "runs": RUNS,
    "unpublished": Entry("a list of metrics", is_metric_list),
    "status": TEXT,
    "tolerance": UNSIGNED_FRACTIONS,
    "reason": TEXT,
    "minutes": Entry("a number of minutes", is_minute_count),
    "explained": TEXT,
}
TABLE_ENTRIES = {
    "title": TEXT,
    "source": TEXT,
    "status": TEXT,
    "tolerance": UNSIGNED_FRACTIONS,
    "reason": TEXT,
    "runs": RUNS,
    "overrides": OVERRIDES,
    # yaml reads text with a colon as a mapping
    "differences": Entry("a list of sentences, each in one line", is_text_list),
    "ranked": Entry("true or false", lambda value: isinstance(value, bool)),
    "cells": Entry(
        "a mapping of names in one line, at least one and none empty, to mappings",
        is_mapping_of_mappings,
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
