import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t as student

from gradalign_cli.errors import UserError
from gradalign_cli.tables.results import Result, merged_result
from gradalign_cli.tables.table import Cell, Table, parse_table
from gradalign_cli.tables.verdict import holm_corrected, paired_comparisons, table_rows
from gradalign_cli.tables.writing import (
    comma_separated,
    latex,
    markdown,
    score_text,
    terminal_table,
)

CELL = Cell("GEM", ("method=gem",), None, {"ACC": 0.8}, "VERIFIED", {"ACC": 0.02}, "print", None)


def result(*accuracies):
    """The result of a run with one seed for each accuracy."""
    seeds = {seed: {"ACC": accuracy} for seed, accuracy in enumerate(accuracies)}
    return Result(seeds, 60.0, {})


@pytest.mark.parametrize(
    ("fields", "accuracy", "expected"),
    [
        ({}, 0.819, "within"),
        ({}, 0.781, "within"),
        ({}, 0.83, "above"),
        ({}, 0.77, "below"),
        ({"published_status": "VERIFIED-2ND"}, 0.77, "below"),
        ({"published_status": "MEMORY"}, 0.8, "not judged: published number from memory"),
        ({"missing_requirement": "ImageNet"}, 0.8, "not judged: needs ImageNet"),
    ],
)
def test_only_verified_numbers_are_judged_by_their_tolerance(fields, accuracy, expected):
    (row,) = table_rows(CELL._replace(**fields), result(accuracy), quick=False)
    assert row.verdict == expected


def test_missing_and_quick_runs_are_not_judged():
    assert table_rows(CELL, None, quick=False)[0].verdict == "not judged: not run"
    assert table_rows(CELL, result(0.8), quick=True)[0].verdict == "not judged: a quick run"


def test_the_interval_is_students():
    accuracies = [0.70, 0.74, 0.81]
    (row,) = table_rows(CELL, result(*accuracies), quick=False)
    half_width = student.ppf(0.975, 2) * np.std(accuracies, ddof=1) / 3**0.5
    assert row.mean == pytest.approx(0.75)
    assert (row.low, row.high) == pytest.approx((0.75 - half_width, 0.75 + half_width))
    assert row.difference == pytest.approx(-0.05)
    assert table_rows(CELL, result(0.7), quick=False)[0].high is None  # one seed has no interval


def test_holms_correction_by_hand():
    # sorted 0.01, 0.03, 0.04: times 3, 2, 1, and never falling
    assert holm_corrected([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm_corrected([0.9, 0.8]) == [1.0, 1.0]
    assert holm_corrected([]) == []


def test_cells_are_compared_over_the_seeds_they_share():
    a, b = result(0.5, 0.6, 0.7, 0.9), result(0.4, 0.52, 0.59)
    (comparison,) = paired_comparisons({"a": a, "b": b}, "ACC")
    differences = np.array([0.1, 0.08, 0.11])
    statistic = differences.mean() / (differences.std(ddof=1) / 3**0.5)
    assert (comparison.first, comparison.second, comparison.seeds) == ("a", "b", 3)
    assert comparison.difference == pytest.approx(differences.mean())
    assert comparison.p == pytest.approx(2 * student.sf(statistic, 2))
    assert paired_comparisons({"a": a, "b": result(0.4, 0.5)}, "ACC") == []  # two pairs are too few


def test_only_cells_of_one_setting_are_compared():
    x, y = result(0.5, 0.6, 0.8), result(0.4, 0.45, 0.6)
    (comparison,) = paired_comparisons({"B 1, x": x, "B 2, x": x, "B 1, y": y}, "ACC")
    assert (comparison.first, comparison.second) == ("B 1, x", "B 1, y")


def test_an_explanation_appears_where_a_number_is_outside_its_tolerance_and_changes_no_verdict():
    explained_cell = CELL._replace(known_deviation="the authors' code | does_otherwise")
    for accuracy in (0.7, 0.8, 0.9):
        (row,) = table_rows(explained_cell, result(accuracy), quick=False)
        (plain_row,) = table_rows(CELL, result(accuracy), quick=False)
        assert row.verdict == plain_row.verdict
        outside = row.verdict in ("above", "below")
        assert row.explained == (explained_cell.known_deviation if outside else "")
    rows = table_rows(explained_cell, result(0.7), quick=False)
    table = Table("t", "T", "nobody", (), False, (explained_cell,))
    assert (
        score_text(rows)
        == "0 of 1 judged numbers within tolerance (1 of the others explained), 1 published"
    )
    assert r"| below: the authors' code \| does_otherwise |" in markdown(table, rows, [], None)
    assert r"below: the authors' code | does\_otherwise" in latex(table, rows)
    assert explained_cell.known_deviation in comma_separated(rows)
    console = Console(record=True, width=200)
    console.print(terminal_table(table, rows))
    assert explained_cell.known_deviation in console.export_text()
    for result_or_none, quick in ((None, False), (result(0.7), True)):  # not judged
        assert table_rows(explained_cell, result_or_none, quick)[0].explained == ""


def test_latex_escapes_its_special_characters():
    rows = table_rows(CELL._replace(name=r"a_b & 5% {c} ~^\d"), result(0.8), quick=False)
    text = latex(Table("t", "T", "nobody", (), False, ()), rows)
    assert r"a\_b \& 5\% \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}d & ACC" in text


def test_the_first_run_of_a_seed_counts():
    merged = merged_result([result(0.1), result(0.2, 0.3)])
    assert {seed: metrics["ACC"] for seed, metrics in merged.seeds.items()} == {0: 0.1, 1: 0.3}
    assert merged.seconds == 120.0


def test_a_later_run_adds_the_metrics_that_an_earlier_run_lacks():
    later = Result({0: {"ACC": 0.2, "ACC_task": 0.9}}, 60.0, {})
    assert merged_result([result(0.1), later]).seeds == {0: {"ACC": 0.1, "ACC_task": 0.9}}


def test_a_metric_that_a_run_lacks_counts_as_not_run():
    cell = CELL._replace(published={"ACC": 0.8, "ACC_task": 0.9}, tolerance={"ACC": 0.1})
    acc_row, acc_task_row = table_rows(cell, result(0.8, 0.82), quick=False)
    assert (acc_row.verdict, acc_row.n) == ("within", 2)
    assert (acc_task_row.verdict, acc_task_row.n) == ("not judged: not run", 0)
    assert acc_task_row.mean is acc_task_row.seconds is None
    partial_result = Result({0: {"ACC": 0.8}, 1: {"ACC": 0.8, "ACC_task": 0.7}}, 60.0, {})
    acc_row, acc_task_row = table_rows(
        cell._replace(published_status="MEMORY"), partial_result, quick=False
    )
    assert (acc_row.n, acc_task_row.n, acc_task_row.mean) == (2, 1, 0.7)


def test_a_table_with_an_entry_that_is_not_valid_is_refused():
    def table(**cell_entries):
        entries = {"title": "t", "source": "s", "status": "VERIFIED"}
        cells = {"A": {"published": {"ACC": 0.5}} | cell_entries}
        return parse_table("t", entries | {"cells": cells})

    assert table(overrides=[], tolerance={"ACC": 0.1}).cells[0].tolerance == {"ACC": 0.1}
    with pytest.raises(UserError, match=r"`t.cells.A` must have either `overrides` or `needs`"):
        table()
    with pytest.raises(UserError, match=r"`t.cells.A.tolerance.ACC` must be given"):
        table(overrides=[])
    with pytest.raises(UserError, match=r"`t.cells.A.status` must be one of VERIFIED"):
        table(overrides=[], status="HEARSAY")
    with pytest.raises(UserError, match=r"`t.cells.A.explaned` is not known; known are overrides"):
        table(overrides=[], explaned="why", tolerance={"ACC": 0.1})
    entries = {"title": "t", "source": "s", "cells": {}, "differences": [{"Not explained": ""}]}
    with pytest.raises(
        UserError, match=r"`t.differences` must be sentences, found {'Not explained'"
    ):
        parse_table("t", entries)


def test_a_difference_as_large_as_the_tolerance_is_within():
    cell = CELL._replace(published={"ACC": 0.5}, tolerance={"ACC": 0.25})  # exact in binary
    for accuracy, verdict in ((0.75, "within"), (0.25, "within"), (0.7500001, "above")):
        (row,) = table_rows(cell, result(accuracy), quick=False)
        assert row.verdict == verdict


def test_two_shared_seeds_are_too_few_to_compare_and_three_are_enough():
    few = {"a": result(0.1, 0.4), "b": result(0.2, 0.3, 0.9)}
    assert paired_comparisons(few, "ACC") == []
    enough = {"a": result(0.1, 0.4, 0.5), "b": result(0.2, 0.3, 0.9)}
    (comparison,) = paired_comparisons(enough, "ACC")
    assert comparison.seeds == 3
