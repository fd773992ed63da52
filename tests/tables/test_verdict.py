import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t as student
from scipy.stats import ttest_ind

from gradalign_cli.errors import UserError
from gradalign_cli.tables.results import Result, merged_result
from gradalign_cli.tables.table import Cell, Table, parse_table
from gradalign_cli.tables.verdict import (
    difference_half_width,
    holm_corrected,
    paired_comparisons,
    table_rows,
)
from gradalign_cli.tables.writing import (
    comma_separated,
    latex,
    markdown,
    row_texts,
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
        ({}, 0.78, "within"),  # the tolerance itself, also where floats round it up
        ({}, 0.83, "above"),
        ({}, 0.77, "below"),
        ({"published_status": "VERIFIED-2ND"}, 0.77, "below"),
        ({"published_status": "MEMORY"}, 0.8, "not judged: published number from memory"),
        ({"missing_requirement": "ImageNet"}, 0.8, "not judged: needs ImageNet"),
    ],
)
def test_only_verified_numbers_are_judged_by_their_tolerance(fields, accuracy, expected):
    cell = CELL._replace(**fields)
    (row,) = table_rows(cell, result(accuracy, accuracy), quick=False)
    assert row.verdict == expected


def test_one_seed_beside_a_print_without_spread_is_too_few():
    for accuracy, verdict in ((0.9, "too few seeds"), (0.7, "too few seeds"), (0.81, "within")):
        (row,) = table_rows(CELL, result(accuracy), quick=False)
        assert row.verdict == verdict


def test_missing_and_quick_runs_are_not_judged():
    assert table_rows(CELL, None, quick=False)[0].verdict == "not judged: not run"
    assert table_rows(CELL, result(0.8), quick=True)[0].verdict == "not judged: a quick run"


def test_the_interval_is_students():
    accuracies = [0.70, 0.74, 0.81]
    (row,) = table_rows(CELL, result(*accuracies), quick=False)
    mean_half_width = student.ppf(0.975, 2) * np.std(accuracies, ddof=1) / 3**0.5
    assert row.mean == pytest.approx(0.75)
    assert (row.low, row.high) == pytest.approx((0.75 - mean_half_width, 0.75 + mean_half_width))
    assert row.difference == pytest.approx(-0.05)
    assert table_rows(CELL, result(0.7), quick=False)[0].high is None  # one seed has no interval


def spread_cell(std, runs=5):
    """CELL with the spread of its published number."""
    return CELL._replace(published_std={"ACC": std}, published_runs=runs)


def test_the_interval_of_a_difference_is_welchs():
    ours, theirs = np.array([0.70, 0.74, 0.81]), np.array([0.80, 0.82, 0.79, 0.83, 0.80])
    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    expected = (interval.high - interval.low) / 2
    assert difference_half_width(ours.std(ddof=1), 3, theirs.std(ddof=1), 5) == pytest.approx(
        expected
    )


def test_a_single_seed_is_judged_as_one_more_run_of_the_paper():
    """The prediction interval of a normal sample: t(n - 1) s sqrt(1 + 1 / n)."""
    expected = student.ppf(0.975, 4) * 0.03 * (1 + 1 / 5) ** 0.5
    assert difference_half_width(None, 1, 0.03, 5) == pytest.approx(expected)
    assert difference_half_width(None, 1, None, None) is None  # nothing is known of the spread


def test_a_published_mean_of_unknown_spread_counts_as_exact():
    (row,) = table_rows(CELL, result(0.70, 0.74, 0.81), quick=False)
    std = np.std([0.70, 0.74, 0.81], ddof=1)
    assert difference_half_width(std, 3, None, None) == pytest.approx(row.high - row.mean)
    assert difference_half_width(0.0, 3, 0.0, 5) == 0.0


@pytest.mark.parametrize(
    ("cell", "accuracies", "expected"),
    [
        # beyond the tolerance of 0.02 by 0.03; half the interval of one more run is 3.04 std
        (spread_cell(0.009), [0.75], "below"),
        (spread_cell(0.011), [0.75], "below"),
        (spread_cell(0.017), [0.75], "too few seeds"),
        (spread_cell(0.017), [0.85], "too few seeds"),
        (spread_cell(0.017), [0.74], "below"),  # 0.06 is more than 3.04 std
        (spread_cell(0.017), [0.781], "within"),
        # three seeds around 0.75: half their interval is 2.48 std, 0.0248 and 0.0745
        (CELL, [0.74, 0.75, 0.76], "below"),
        (CELL, [0.72, 0.75, 0.78], "too few seeds"),
        (CELL, [0.72, 0.75, 0.78] * 3, "below"),  # as many more decide
        (spread_cell(0.03), [0.74, 0.75, 0.76], "below"),  # the paper's 0.037 and ours together
        (spread_cell(0.05), [0.74, 0.75, 0.76], "too few seeds"),
    ],
)
def test_a_number_beyond_its_tolerance_is_judged_only_where_chance_does_not_explain_it(
    cell, accuracies, expected
):
    (row,) = table_rows(cell, result(*accuracies), quick=False)
    assert row.verdict == expected


def test_noise_makes_no_number_within_its_tolerance():
    for std in (0.0, 0.01, 0.1, 1.0):
        for accuracies in ([0.75], [0.75, 0.75], [0.5, 1.0], [0.7, 0.75, 0.8]):
            (row,) = table_rows(spread_cell(std), result(*accuracies), quick=False)
            (plain_row,) = table_rows(CELL, result(*accuracies), quick=False)
            assert row.verdict != "within"
            assert plain_row.verdict != "within"
            assert row.mean == pytest.approx(0.75)


def test_numbers_with_too_few_seeds_are_judged_and_not_within():
    cells = [
        (spread_cell(0.03), (0.75,)),
        (spread_cell(0.03), (0.8,)),
        (CELL._replace(known_deviation="why"), (0.7, 0.7)),
    ]
    rows = [row for cell, acc in cells for row in table_rows(cell, result(*acc), quick=False)]
    assert score_text(rows) == (
        "1 of 3 judged numbers within tolerance "
        "(of the others 1 explained, 1 with too few seeds to tell), 3 published"
    )


def test_the_published_interval_stands_beside_the_published_mean():
    table = Table("t", "T", "nobody", (), False, ())
    rows = table_rows(spread_cell(0.01), result(0.8), quick=False)
    half = 100 * student.ppf(0.975, 4) * 0.01 / 5**0.5
    assert rows[0].published_half == pytest.approx(half / 100)
    assert f"| ACC | 80.00 ± {half:.2f} | 80.00 | 1 |" in markdown(table, rows, [], None)
    assert rf"& 80.00 $\pm$ {half:.2f} & 80.00 & 1 &" in latex(table, rows)
    assert table_rows(CELL, result(0.8), quick=False)[0].published_half is None


def test_a_metric_that_the_paper_does_not_print_is_shown_and_neither_judged_nor_counted():
    cell = CELL._replace(unpublished_metrics=("AAA",), published_status="MEMORY")
    result_with_aaa = Result({0: {"ACC": 0.8, "AAA": 0.9}}, 60.0, {})
    acc_row, aaa_row = table_rows(cell, result_with_aaa, quick=False)
    assert (aaa_row.mean, aaa_row.published, aaa_row.difference) == (0.9, None, None)
    assert aaa_row.verdict == "not judged: not printed"
    assert score_text([acc_row, aaa_row]).endswith("No number is judged, 1 published")
    text = markdown(Table("t", "T", "nobody", (), False, (cell,)), [aaa_row], [], None)
    assert "| GEM | AAA | - | 90.00 | 1 | - | not judged: not printed | 1.0 min |" in text
    _, aaa_row = table_rows(cell, result(0.8), quick=False)  # a run that lacks it
    assert (aaa_row.mean, aaa_row.verdict) == (None, "not judged: not run")


def test_a_cell_that_was_not_run_shows_the_minutes_of_a_seed():
    for minutes, text in ((2.0, "2.0 min a seed"), (None, "-")):
        (row,) = table_rows(CELL._replace(minutes_per_seed=minutes), None, quick=False)
        assert row_texts(row)[-1] == text


def test_markdown_states_each_tolerance_and_folds_what_was_not_run():
    other = CELL._replace(name="A-GEM", tolerance={"ACC": 0.05}, tolerance_reason="noise")
    table = Table("t", "T", "nobody", (), False, (CELL, other))
    rows = [*table_rows(CELL, result(0.8), quick=False), *table_rows(other, None, quick=False)]
    shown, folded = markdown(table, rows, [], None).split("<details>")
    limit = f"ACC {100 * CELL.tolerance['ACC']:.2f} ({CELL.tolerance_reason})"
    assert f"\n- {limit}: GEM.\n- ACC 5.00 (noise): A-GEM.\n" in shown
    assert "\n| GEM | ACC |" in shown
    assert "\n| A-GEM |" not in shown
    assert "<summary>numbers that were not run: 1</summary>" in folded
    assert "\n| A-GEM | ACC |" in folded
    assert "\n| GEM |" not in folded
    assert "No cell is judged." in markdown(table._replace(cells=()), rows, [], None)


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
    assert (comparison.first_cell, comparison.second_cell, comparison.seeds) == ("a", "b", 3)
    assert comparison.difference == pytest.approx(differences.mean())
    assert comparison.p_value == pytest.approx(2 * student.sf(statistic, 2))
    assert paired_comparisons({"a": a, "b": result(0.4, 0.5)}, "ACC") == []  # two pairs are too few
    equal_differences = {"a": result(0.9, 0.8, 0.7), "b": result(0.85, 0.75, 0.65)}
    assert paired_comparisons(equal_differences, "ACC") == []  # but for the rounding of floats


def test_only_cells_of_one_setting_are_compared():
    x, y = result(0.5, 0.6, 0.8), result(0.4, 0.45, 0.6)
    (comparison,) = paired_comparisons({"B 1, x": x, "B 2, x": x, "B 1, y": y}, "ACC")
    assert (comparison.first_cell, comparison.second_cell) == ("B 1, x", "B 1, y")


def test_an_explanation_appears_where_a_number_is_outside_its_tolerance_and_changes_no_verdict():
    explained_cell = CELL._replace(known_deviation="the authors' code | does_otherwise")
    for accuracy in (0.7, 0.8, 0.9):
        (row,) = table_rows(explained_cell, result(accuracy, accuracy), quick=False)
        (plain_row,) = table_rows(CELL, result(accuracy, accuracy), quick=False)
        assert row.verdict == plain_row.verdict
        assert row.explained == ("" if row.verdict == "within" else explained_cell.known_deviation)
    too_few = table_rows(explained_cell, result(0.7), quick=False)
    assert [(row.verdict, row.explained) for row in too_few] == [
        ("too few seeds", explained_cell.known_deviation)
    ]
    assert score_text(too_few).endswith("(of the others 1 explained), 1 published")
    rows = table_rows(explained_cell, result(0.7, 0.7), quick=False)
    table = Table("t", "T", "nobody", (), False, (explained_cell,))
    assert (
        score_text(rows)
        == "0 of 1 judged numbers within tolerance (of the others 1 explained), 1 published"
    )
    assert r"| below: the authors' code \| does_otherwise |" in markdown(table, rows, [], None)
    assert r"below: the authors' code | does\_otherwise" in latex(table, rows)
    assert explained_cell.known_deviation in comma_separated(rows)
    console = Console(record=True, width=200)
    console.print(terminal_table(table, rows))
    assert explained_cell.known_deviation in console.export_text()
    for result_or_none, quick in ((None, False), (result(0.7), True)):  # not judged
        assert table_rows(explained_cell, result_or_none, quick)[0].explained == ""


def test_a_bar_in_a_name_splits_no_column_of_a_table():
    pairs = paired_comparisons(
        {"S, a | b": result(0.5, 0.6, 0.8), "S, c": result(0.4, 0.4, 0.5)}, "ACC"
    )
    text = markdown(Table("t", "T", "nobody", (), False, ()), [], pairs, None)
    assert r"| S, a \| b | S, c | 3 |" in text


def test_latex_escapes_its_special_characters():
    rows = table_rows(CELL._replace(name=r"a_b & 5% {c} ~^\d"), result(0.8), quick=False)
    text = latex(Table("t", "T", "nobody", (), False, ()), rows)
    assert r"a\_b \& 5\% \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}d & ACC" in text


def test_the_first_run_of_a_seed_counts():
    merged = merged_result([result(0.1), result(0.2, 0.3)])
    assert {seed: metrics["ACC"] for seed, metrics in merged.seeds.items()} == {0: 0.1, 1: 0.3}
    assert merged.seconds == 60.0 + 30.0  # half of the second run's seeds count


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
    spread = {"overrides": [], "tolerance": {"ACC": 0.1}, "std": {"ACC": 0.02}}
    (cell,) = table(**spread, runs=5, unpublished=["AAA"]).cells
    assert (cell.published_std, cell.published_runs) == ({"ACC": 0.02}, 5)
    assert cell.unpublished_metrics == ("AAA",)
    for entries, message in (
        ({"runs": None}, "runs` must be a whole number of at least 2"),
        ({"runs": 1}, "runs` must be a whole number of at least 2"),
        ({"std": {"BWT": 0.02}}, "std` must be of published metrics, found 'BWT'"),
        ({"std": {"ACC": -0.02}}, "std` must be a mapping of metrics to fractions from 0"),
        ({"unpublished": ["ACC"]}, "unpublished` must not have ACC, which is there"),
        (
            {"published": {"ACC": 50}},
            r"published` must be a mapping of metrics \(ACC.* to fractions that they can have",
        ),
        (
            {"tolerance": {"ACC": -0.1}},
            "tolerance` must be a mapping of metrics to fractions from 0",
        ),
        ({"minutes": 1e308}, "minutes` must be a number of minutes"),
    ):
        with pytest.raises(UserError, match=f"`t.cells.A.{message}"):
            table(**spread | {"runs": 5} | entries)
    entries = {"title": "t", "source": "s", "cells": {}}
    with pytest.raises(
        UserError, match=r"`t.cells` must be a mapping of names in one line, at least one and none"
    ):
        parse_table("t", entries)
    cells = {"A": {"needs": "birds", "published": {}, "status": "MEMORY"}}
    entries |= {"cells": cells, "differences": [{"Not explained": ""}]}
    with pytest.raises(
        UserError,
        match=r"`t.differences` must be a list of sentences, each in one line, found \[{'Not",
    ):
        parse_table("t", entries)


def test_a_difference_as_large_as_the_tolerance_is_within():
    cell = CELL._replace(published={"ACC": 0.5}, tolerance={"ACC": 0.25})  # exact in binary
    for accuracy, verdict in ((0.75, "within"), (0.25, "within"), (0.7500001, "above")):
        (row,) = table_rows(cell, result(accuracy, accuracy), quick=False)
        assert row.verdict == verdict


def test_two_shared_seeds_are_too_few_to_compare_and_three_are_enough():
    few = {"a": result(0.1, 0.4), "b": result(0.2, 0.3, 0.9)}
    assert paired_comparisons(few, "ACC") == []
    enough = {"a": result(0.1, 0.4, 0.5), "b": result(0.2, 0.3, 0.9)}
    (comparison,) = paired_comparisons(enough, "ACC")
    assert comparison.seeds == 3
