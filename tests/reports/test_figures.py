"""Figures hold the numbers of the runs, have titles and axes with units, and the same colours."""

import io
import json
import re

import numpy as np
import pytest

from gradalign_cli.reports import curves, figures
from gradalign_cli.reports.files import write_figures
from gradalign_cli.reports.inline_svg import inline_svg
from gradalign_cli.reports.plots import report_plots
from gradalign_cli.reports.report import make_report
from gradalign_cli.reports.style import COLOURS, PAGE_WIDTH, figure_style
from tests.reports.folders import write_run


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of two methods, of which `er` has no memory gradient and tests between the steps."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", "agem", (0.5, 0.6))
    run = write_run(folder / "b", "er", (0.8, 0.9), record={"measured_steps": 0})
    header, *lines = (run / "alignment.csv").read_text().splitlines()
    empty = [",".join([*line.split(",")[:4], "", "", "", "1"]) for line in lines]
    (run / "alignment.csv").write_text("\n".join([header, *empty]) + "\n")
    (run / "continual.csv").write_text(
        "replica,task,step,task_1,task_2\n0,1,10,0.9,\n0,2,5,0.2,0.4\n0,2,10,0.8,0.8\n"
    )
    (run / "learning_curves.csv").write_text(
        "replica,task,step,accuracy\n0,1,0,0.1\n0,1,1,0.5\n0,2,0,0.3\n0,2,1,0.9\n1,1,0,0.2\n1,1,1,0.7\n"
    )
    return make_report([folder]).rows


@pytest.fixture(scope="module")
def plots(rows):
    return {plot.name: plot for plot in report_plots(rows)}


def drawn(plot):
    with figure_style():
        return plot.draw(PAGE_WIDTH)


def lines_of(figure):
    """The x and y of each labelled line of the first axes."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in figure.axes[0].lines
        if not line.get_label().startswith("_")
    }


def test_a_report_has_the_figures_that_its_runs_can_fill(plots):
    assert list(plots) == [
        "seeds", "accuracy", "forgetting", "tasks", "so_far", "learning_curve", "stability_gap",
        "cosine", "violations", "kept", "hurt", "cost",
    ]  # fmt: skip


def test_every_figure_has_a_title_a_sentence_numbers_and_named_axes(plots):
    for plot in plots.values():
        assert plot.title
        assert plot.caption.endswith((".", ". "))
        assert plot.table_rows
        assert all(len(row) == len(plot.table_columns) for row in plot.table_rows)
        named = [axes for axes in drawn(plot).axes if axes.axison]
        assert all(axes.get_xlabel() or axes.get_ylabel() for axes in named)


def test_every_seed_is_a_dot(plots):
    dots = [line for line in drawn(plots["seeds"]).axes[0].lines if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in dots] == [
        pytest.approx([80, 90]), pytest.approx([50, 60]),
    ]  # fmt: skip
    assert ["agem", "ACC", "1", "60.00"] in plots["seeds"].table_rows


def test_heat_maps_show_the_mean_over_seeds_in_percent(plots):
    images = [axes.images[0] for axes in drawn(plots["accuracy"]).axes if axes.images]
    expected = np.array([[10, 10], [90, 10], [55, 55]])
    np.testing.assert_allclose(images[1].get_array(), expected)
    forgotten = drawn(plots["forgetting"]).axes[1].images[0].get_array()
    assert forgotten.filled(np.nan)[1, 0] == pytest.approx(35)
    assert np.isnan(forgotten.filled(np.nan)[0]).all()


def test_the_page_has_what_matplotlib_saves_of_a_figure(plots):
    plot, saved = plots["cosine"], io.StringIO()
    with figure_style(svg_salt=plot.name):
        plot.draw(PAGE_WIDTH).savefig(saved, format="svg", metadata={"Date": None})
    paths = re.findall(r' d="([^"]*)"', saved.getvalue())
    assert paths
    assert re.findall(r' d="([^"]*)"', inline_svg(plot)) == [
        re.sub(r"\n\s*", "\n", d) for d in paths
    ]


def test_a_bar_of_colours_is_there_where_cells_have_no_numbers_or_panels_are_compared():
    few, many = np.full((4, 3), 0.5), np.full((12, 11), 0.5)
    for matrices, has_bar in (
        ({"a": few}, False),
        ({"a": few, "b": few}, True),
        ({"a": many}, True),
    ):
        figure = figures.heat_maps(matrices, "accuracy")
        assert (len(figure.axes) > len(matrices)) == has_bar
        where = figure.axes[-1 if has_bar else 0].get_xlabel()
        assert "accuracy" in where
        assert "%" in where


def test_curves_over_tasks_hold_the_means_over_seeds(plots):
    assert lines_of(drawn(plots["so_far"]))["agem"] == ([1, 2], pytest.approx([90, 55]))


def test_angles_are_those_of_alignment_csv(plots):
    cosine = lines_of(drawn(plots["cosine"]))
    assert list(cosine) == ["agem"]
    assert cosine["agem"][1] == pytest.approx([-0.5, 0.25])
    assert 1 < cosine["agem"][0][0] < cosine["agem"][0][1] < 2
    assert lines_of(drawn(plots["violations"]))["agem"] == ([2], pytest.approx([50]))
    assert lines_of(drawn(plots["kept"]))["agem"] == ([2], pytest.approx([0.9]))


@pytest.mark.parametrize(
    ("steps", "mean_steps", "expected"),
    [
        ([1, 11], 20, [0.05, 0.55]),  # every tenth step of twenty
        ([1], 100, [0.01]),  # the first of a hundred
        ([1, 11], 50, [0.05, 0.55]),  # a shorter task than the others: another row came at step 21
        ([1, 11], 0, [1 / 11, 1.0]),  # the record does not tell
        ([5, 10, 12], 30, [5 / 12, 10 / 12, 1.0]),  # tests between steps: the last is the task's
    ],
)
def test_the_time_of_a_row_is_its_step_by_the_steps_of_its_task(steps, mean_steps, expected):
    columns = {"task": np.full(len(steps), 3.0), "step": np.array(steps, dtype=float)}
    steps_of_task = curves.steps_of_task(columns, mean_steps)
    time = curves.time_in_tasks(columns | {"steps_of_task": steps_of_task})
    assert time.tolist() == pytest.approx([2 + part for part in expected])


def test_what_a_run_counts_over_several_settings_is_shown_for_none(tmp_path):
    write_run(tmp_path / "a", "agem", (0.5, 0.6))
    run = write_run(tmp_path / "b", "er", (0.8, 0.9), seeds=(0, 0))
    for name in ("record.json", "metrics.json"):
        content = json.loads((run / name).read_text())
        content["replicas"][1]["lr"] = 0.3
        (run / name).write_text(json.dumps(content))
    (hurt,) = [p for p in report_plots(make_report([tmp_path]).rows) if p.name == "hurt"]
    assert [row[1] for row in hurt.table_rows] == ["-", "-", "25"]


def test_a_cost_is_a_mean_over_seeds(tmp_path):
    write_run(tmp_path / "a", "agem", (0.5,), seeds=(0,), record={"training_seconds": 10.0})
    nine = tuple(range(1, 10))
    write_run(tmp_path / "b", "agem", (0.5,) * 9, seeds=nine, record={"training_seconds": 9.0})
    (cost,) = [p for p in report_plots(make_report([tmp_path]).rows) if p.name == "cost"]
    assert cost.table_rows[0][cost.table_columns.index("training (s)")] == "1.9"


def test_a_share_that_was_not_measured_is_not_shown_as_none(plots):
    axes = drawn(plots["hurt"]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, 25])
    assert [text.get_text().strip() for text in axes.texts] == ["not measured", "25"]


def test_a_row_has_one_colour_in_all_figures(plots):
    for name in ("so_far", "cosine", "kept"):
        (line,) = [x for x in drawn(plots[name]).axes[0].lines if x.get_label() == "agem"]
        assert line.get_color() == COLOURS[1]


def test_tests_between_steps_show_the_tasks_that_have_ended(plots):
    x, y = lines_of(drawn(plots["stability_gap"]))["er"]
    assert y == pytest.approx([20, 80])
    assert x == sorted(x)


def test_costs_are_those_of_one_seed(plots):
    assert plots["cost"].table_rows[1] == ["agem", "55.00", "100", "2", "2"]


def test_the_learning_curve_is_a_mean_over_tasks_and_seeds(plots):
    numbers = plots["learning_curve"].table_rows
    assert [row[:2] for row in numbers] == [["er", "0"], ["er", "1"]]
    assert [float(row[2]) for row in numbers] == pytest.approx([20.0, 70.0])


def test_a_run_of_an_earlier_version_without_a_cost_is_on_no_front():
    assert curves.pareto_front([np.nan, 2, 1], [9, 5, 4]) == [2, 1]


def test_the_front_joins_what_no_other_beats():
    assert curves.pareto_front([3, 1, 2, 1], [9, 5, 4, 2]) == [1, 0]
    figure = figures.cost_against_accuracy({"s": {"a": 1, "b": 2}}, {"a": 0.5, "b": 0.4})
    assert list(figure.axes[0].lines[-1].get_xdata()) == [1]


def test_figures_for_a_paper_are_files_of_three_forms_and_the_same_bytes_again(plots, tmp_path):
    for folder in ("a", "b"):
        write_figures([plots["so_far"]], tmp_path / folder)
    for form, start in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        content = (tmp_path / "a" / f"so_far.{form}").read_bytes()
        assert content.startswith(start)
        assert content == (tmp_path / "b" / f"so_far.{form}").read_bytes()
