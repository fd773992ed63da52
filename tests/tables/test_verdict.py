import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t as student

from gradalign_cli.errors import UserError
from gradalign_cli.tables.results import Result, merged
from gradalign_cli.tables.table import Cell, Table, parse
from gradalign_cli.tables.verdict import comparisons, holm, rows
from gradalign_cli.tables.writing import comma_separated, grid, latex, markdown, score

CELL = Cell("GEM", ("method=gem",), None, {"ACC": 0.8}, "VERIFIED", {"ACC": 0.02}, "print", None)


def result(*accuracies):
    return Result({s: {"ACC": a} for s, a in enumerate(accuracies)}, 60.0, {})


@pytest.mark.parametrize(
    ("changed", "accuracy", "expected"),
    [
        ({}, 0.819, "within"),
        ({}, 0.781, "within"),
        ({}, 0.83, "above"),
        ({}, 0.77, "below"),
        ({"status": "VERIFIED-2ND"}, 0.77, "below"),
        ({"status": "MEMORY"}, 0.8, "not judged: published number from memory"),
        ({"needs": "ImageNet"}, 0.8, "not judged: needs ImageNet"),
    ],
)
def test_only_checked_numbers_are_judged_and_by_their_tolerance(changed, accuracy, expected):
    (row,) = rows(CELL._replace(**changed), result(accuracy), False)
    assert row.verdict == expected


def test_what_was_not_run_or_run_small_is_not_judged():
    assert rows(CELL, None, False)[0].verdict == "not judged: not run"
    assert rows(CELL, result(0.8), True)[0].verdict == "not judged: a quick run"


def test_the_interval_is_students():
    accuracies = [0.70, 0.74, 0.81]
    (row,) = rows(CELL, result(*accuracies), False)
    half = student.ppf(0.975, 2) * np.std(accuracies, ddof=1) / 3**0.5
    assert row.mean == pytest.approx(0.75)
    assert (row.low, row.high) == pytest.approx((0.75 - half, 0.75 + half))
    assert row.difference == pytest.approx(-0.05)
    assert rows(CELL, result(0.7), False)[0].high is None  # one seed has no interval


def test_holm_by_hand():
    # sorted 0.01, 0.03, 0.04: times 3, 2, 1, and never falling
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_cells_are_compared_over_the_seeds_they_share():
    a, b = result(0.5, 0.6, 0.7, 0.9), result(0.4, 0.52, 0.59)
    (found,) = comparisons({"a": a, "b": b}, "ACC")
    difference = np.array([0.1, 0.08, 0.11])
    statistic = difference.mean() / (difference.std(ddof=1) / 3**0.5)
    assert (found.first, found.second, found.seeds) == ("a", "b", 3)
    assert found.difference == pytest.approx(difference.mean())
    assert found.p == pytest.approx(2 * student.sf(statistic, 2))
    assert comparisons({"a": a, "b": result(0.4, 0.5)}, "ACC") == []  # two pairs say nothing


def test_cells_are_compared_within_a_setting():
    some = result(0.5, 0.6, 0.8)
    named = {"B 1, x": some, "B 2, x": some, "B 1, y": result(0.4, 0.45, 0.6)}
    (found,) = comparisons(named, "ACC")
    assert (found.first, found.second) == ("B 1, x", "B 1, y")


def test_an_explanation_stands_beside_a_number_that_is_off_and_changes_no_verdict():
    cell = CELL._replace(explained="the authors' code | does_otherwise")
    for accuracy in (0.7, 0.8, 0.9):
        (row,), (plain,) = (rows(c, result(accuracy), False) for c in (cell, CELL))
        assert row.verdict == plain.verdict
        assert row.explained == (cell.explained if row.verdict in ("above", "below") else "")
    made = rows(cell, result(0.7), False)
    table = Table("t", "T", "nobody", (), False, (cell,))
    assert (
        score(made)
        == "0 of 1 judged numbers within tolerance (1 of the others explained), 1 published"
    )
    assert r"| below: the authors' code \| does_otherwise |" in markdown(table, made, [], None)
    assert r"below: the authors' code | does\_otherwise" in latex(table, made)
    assert cell.explained in comma_separated(made)
    console = Console(record=True, width=200)
    console.print(grid(table, made))
    assert cell.explained in console.export_text()
    for other in (rows(cell, None, False), rows(cell, result(0.7), True)):
        assert other[0].explained == ""


def test_latex_reads_its_own_signs_as_text():
    made = rows(CELL._replace(name=r"a_b & 5% {c} ~^\d"), result(0.8), False)
    text = latex(Table("t", "T", "nobody", (), False, ()), made)
    assert r"a\_b \& 5\% \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}d & ACC" in text


def test_the_first_run_of_a_seed_counts():
    found = merged([result(0.1), result(0.2, 0.3)])
    assert {seed: own["ACC"] for seed, own in found.seeds.items()} == {0: 0.1, 1: 0.3}
    assert found.seconds == 120.0


def test_a_later_run_adds_the_numbers_that_an_earlier_one_lacks():
    newer = Result({0: {"ACC": 0.2, "ACC_task": 0.9}}, 60.0, {})
    assert merged([result(0.1), newer]).seeds == {0: {"ACC": 0.1, "ACC_task": 0.9}}


def test_a_number_that_a_run_lacks_was_not_run():
    both = CELL._replace(published={"ACC": 0.8, "ACC_task": 0.9}, tolerance={"ACC": 0.1})
    there, lacking = rows(both, result(0.8, 0.82), False)
    assert (there.verdict, there.n) == ("within", 2)
    assert (lacking.verdict, lacking.n) == ("not judged: not run", 0)
    assert lacking.mean is lacking.seconds is None
    some = Result({0: {"ACC": 0.8}, 1: {"ACC": 0.8, "ACC_task": 0.7}}, 60.0, {})
    whole, part = rows(both._replace(status="MEMORY"), some, False)
    assert (whole.n, part.n, part.mean) == (2, 1, 0.7)


def test_a_table_that_says_what_cannot_be_is_refused():
    def table(**cell):
        whole = {"title": "t", "source": "s", "status": "VERIFIED"}
        return parse("t", whole | {"cells": {"A": {"published": {"ACC": 0.5}} | cell}})

    assert table(overrides=[], tolerance={"ACC": 0.1}).cells[0].tolerance == {"ACC": 0.1}
    with pytest.raises(UserError, match=r"`t.cells.A` must have either `overrides` or `needs`"):
        table()
    with pytest.raises(UserError, match=r"`t.cells.A.tolerance.ACC` must be given"):
        table(overrides=[])
    with pytest.raises(UserError, match=r"`t.cells.A.status` must be one of VERIFIED"):
        table(overrides=[], status="HEARSAY")
    with pytest.raises(UserError, match=r"`t.cells.A.explaned` is not known; known are overrides"):
        table(overrides=[], explaned="why", tolerance={"ACC": 0.1})
    with pytest.raises(
        UserError, match=r"`t.differences` must be sentences, found {'Not explained'"
    ):
        parse(
            "t", {"title": "t", "source": "s", "cells": {}, "differences": [{"Not explained": ""}]}
        )
