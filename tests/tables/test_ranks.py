import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from gradalign_cli.tables.ranks import (
    Ranks,
    critical_difference,
    indistinct_spans,
    method_ranks,
    ranks_diagram,
    ranks_sentence,
)
from gradalign_cli.tables.results import Result
from gradalign_cli.tables.table import Table
from gradalign_cli.tables.writing import write_table

SETTINGS = ("A", "B")
TABLE = Table("t", "T", "nobody", (), True, ())


def results(accuracies):
    """The results of accuracies by setting and method: two seeds each, around the accuracy."""
    return {
        f"B, {setting}, {method}": Result(
            {0: {"ACC": accuracy - 0.01}, 1: {"ACC": accuracy + 0.01}}, 1.0, {}
        )
        for setting, row in enumerate(accuracies)
        for method, accuracy in row.items()
    }


def test_ranks_are_averaged_over_settings_and_ties_share_their_ranks():
    accuracies = [{"x": 0.9, "y": 0.8, "z": 0.7}] * 4 + [{"x": 0.5, "y": 0.5, "z": 0.6}]
    ranks = method_ranks(TABLE, results(accuracies), "ACC")
    assert ranks.mean_ranks == pytest.approx(
        {"x": (4 + 2.5) / 5, "y": (8 + 2.5) / 5, "z": (12 + 1) / 5}
    )
    assert list(ranks.mean_ranks) == ["x", "y", "z"]
    columns = np.array([[row[method] for method in "xyz"] for row in accuracies]).T
    assert ranks.p_value == pytest.approx(friedmanchisquare(*columns).pvalue)


def test_the_critical_difference_is_demsars():
    """Demsar 2006, sec. 3.2.4: four classifiers on 14 data sets, CD 1.25."""
    rng = np.random.default_rng(0)
    accuracies = [dict(zip("abcd", rng.random(4), strict=True)) for _ in range(14)]
    ranks = method_ranks(TABLE, results(accuracies), "ACC")
    assert ranks.critical_difference == pytest.approx(1.25, abs=0.005)


def test_the_critical_values_of_nemenyis_test_are_demsars():
    """Demsar 2006, table 5a."""
    printed = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for methods, q in enumerate(printed, 2):
        scale = (methods * (methods + 1) / (6 * 20)) ** 0.5
        assert critical_difference(methods, 20) / scale == pytest.approx(
            q, abs=0.001
        )  # some are cut, not rounded


def test_only_methods_that_every_setting_has_are_ranked():
    accuracies = [{"x": 0.9, "y": 0.8, "z": 0.7, "w": 0.6}] * 4 + [{"x": 0.5, "y": 0.4, "z": 0.3}]
    assert list(method_ranks(TABLE, results(accuracies), "ACC").mean_ranks) == ["x", "y", "z"]


def test_too_few_settings_or_methods_are_not_ranked():
    enough = results([{"x": 0.9, "y": 0.8, "z": 0.7}] * 5)
    assert method_ranks(TABLE, enough, "ACC")
    assert method_ranks(TABLE._replace(ranks_methods=False), enough, "ACC") is None
    assert method_ranks(TABLE, results([{"x": 0.9, "y": 0.8, "z": 0.7}] * 4), "ACC") is None
    assert method_ranks(TABLE, results([{"x": 0.9, "y": 0.8}] * 9), "ACC") is None
    assert method_ranks(TABLE, enough, "F") is None


def test_spans_are_the_widest_within_the_critical_difference():
    ranks = Ranks({"a": 1.2, "b": 1.9, "c": 3.0, "d": 3.9}, SETTINGS, 0.01, 1.2)
    assert indistinct_spans(ranks) == [(1.2, 1.9), (1.9, 3.0), (3.0, 3.9)]
    assert indistinct_spans(ranks._replace(critical_difference=2.1)) == [(1.2, 3.0), (1.9, 3.9)]
    assert indistinct_spans(ranks._replace(critical_difference=0.5)) == []
    exact = Ranks({"a": 1.0, "b": 2.0, "c": 3.0}, SETTINGS, 0.01, 1.0)
    assert indistinct_spans(exact) == []  # ranks as far apart as the critical difference differ


def test_where_friedmans_test_finds_no_difference_no_pair_differs():
    ranks = Ranks({"a": 1.2, "b": 1.9, "c": 3.0, "d": 3.9}, SETTINGS, 0.06, 1.2)
    assert indistinct_spans(ranks) == [(1.2, 3.9)]
    assert "They do not differ at 5 % (Friedman's p 0.06)" in ranks_sentence(ranks)
    assert "Nemenyi" in ranks_sentence(ranks._replace(p_value=0.04))


def test_methods_that_are_equal_in_every_setting_do_not_differ():
    ranks = method_ranks(TABLE, results([{"x": 0.9, "y": 0.9, "z": 0.9}] * 5), "ACC")
    assert ranks.mean_ranks == {"x": 2.0, "y": 2.0, "z": 2.0}
    assert ranks.p_value == 1.0
    assert indistinct_spans(ranks) == [(2.0, 2.0)]
    assert ranks_diagram(ranks)


def test_the_diagram_has_every_method_and_a_bar_for_every_span():
    ranks = Ranks({"a": 1.2, "b": 1.9, "c": 3.0, "d & e": 3.9}, SETTINGS, 0.01, 1.2)
    svg = ranks_diagram(ranks)
    texts = [text.text for text in ElementTree.fromstring(svg).iter() if text.tag.endswith("text")]
    assert {"a 1.20", "b 1.90", "c 3.00", "d & e 3.90", "critical difference 1.20"} <= set(texts)
    assert len(re.findall('stroke-width="4"', svg)) == len(indistinct_spans(ranks))
    assert "(A, B): a 1.20, b 1.90, c 3.00, d & e 3.90" in ranks_sentence(ranks)


def test_a_table_without_ranks_leaves_no_diagram_of_an_earlier_one(tmp_path):
    ranks = Ranks({"a": 1.2, "b": 1.9, "c": 2.9}, SETTINGS, 0.01, 1.2)
    for ranks_now in (ranks, None, None):
        write_table(TABLE, [], [], ranks_now, {}, tmp_path)
        assert (tmp_path / "ranks.svg").exists() == (ranks_now is not None)
