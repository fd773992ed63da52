"""A table on the embedded digits: run, continued, and written in every form."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from gradalign_cli.errors import UserError
from tests.tables.tiny_table import AGEM_ONCE, ALL_CELLS, TABLE, csv_rows, reproduce_tiny


def test_a_table_goes_on_past_a_failing_cell_and_runs_nothing_twice(conf, tmp_path):
    out = tmp_path / "out"
    code, output = reproduce_tiny(conf, ALL_CELLS, out)
    assert code == 1  # a cell failed
    assert "4 cells, 3 can be run, 3 still to run (about 1 minute on" in output
    assert "wrong: failed: gradalign: `buffer.capacity` must be a positive whole number" in output
    verdicts = {(row["cell"], row["metric"]): row["verdict"] for row in csv_rows(out)}
    assert verdicts == {
        ("A-GEM", "ACC"): "within",
        ("plain", "ACC"): "not judged: published number from memory",
        ("plain", "BWT"): "not judged: published number from memory",
        ("wrong", "ACC"): "not judged: not run",
        ("birds", "ACC"): "not judged: needs CUB-200",
    }
    content = json.loads((out / "tiny" / "table.json").read_text())
    assert list(content["results"]["A-GEM"]["seeds"]) == ["0", "1"]
    assert (
        "1 of 1 judged numbers within tolerance, 5 published"
        in (out / "tiny" / "table.md").read_text()
    )
    assert r"\toprule" in (out / "tiny" / "table.tex").read_text()

    run_folders = sorted((out / "tiny" / "runs").iterdir())
    first_rows = csv_rows(out)
    code, output = reproduce_tiny(conf, ALL_CELLS._replace(cell_pattern="[Ap]*"), out)
    assert (code, "0 still to run" in output) == (0, True)
    assert sorted((out / "tiny" / "runs").iterdir()) == run_folders
    request = ALL_CELLS._replace(cell_pattern="A-GEM", seed_count=3)
    code, output = reproduce_tiny(conf, request, out)
    assert "A-GEM: running" in output  # for the third seed alone
    rows = csv_rows(out)  # those of cells that were not asked for stay
    assert [row["n"] for row in rows if row["cell"] == "A-GEM"] == ["3"]
    assert [row for row in rows if row["cell"] != "A-GEM"] == first_rows[1:]
    second_out = tmp_path / "second"
    request = ALL_CELLS._replace(
        cell_pattern="[Ap]*", finished_run_folders=(out / "tiny" / "runs",)
    )
    assert "0 still to run" in reproduce_tiny(conf, request, second_out)[1]
    assert csv_rows(second_out)[1]["mean"] == first_rows[1]["mean"]


def test_a_run_that_lacks_a_published_metric_is_repeated(conf, tmp_path):
    """Runs of an earlier version may lack some, such as the accuracy with own logits."""
    request, out = ALL_CELLS._replace(cell_pattern="plain", seed_count=1), tmp_path / "out"
    reproduce_tiny(conf, request, out)
    rows = csv_rows(out)
    (file,) = (out / "tiny" / "runs").glob("*/metrics.json")
    results = json.loads(file.read_text())
    del results["replicas"][0]["BWT"]
    file.write_text(json.dumps(results))
    _, output = reproduce_tiny(conf, request._replace(budget_minutes=0), out)
    assert "1 still to run" in output
    assert "nothing is started, as --budget is 0" in output
    means = [row["mean"] for row in csv_rows(out) if row["cell"] == "plain"]
    assert means == [rows[1]["mean"], ""]
    with pytest.warns(UserWarning, match=r"is trained anew; .* is kept as .*_seeds_0_kept_1"):
        reproduce_tiny(conf, request, out)
    assert csv_rows(out) == rows


def test_numbers_that_leave_a_table_are_told(conf, agem_runs, tmp_path):
    out = tmp_path / "out"
    reproduce_tiny(conf, AGEM_ONCE._replace(finished_run_folders=(agem_runs,)), out)
    with pytest.warns(UserWarning, match="numbers of 1 cell leave the table, 'A-GEM' first"):
        reproduce_tiny(conf, AGEM_ONCE._replace(cell_pattern="birds"), out)


def test_a_misspelt_cell_that_was_not_requested_costs_no_table(conf, agem_runs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(agem_runs, out / "tiny/runs")
    cells = TABLE["cells"] | {
        "typo": {"overrides": ["method=agemm"], "published": {"ACC": 0.9}, "status": "MEMORY"}
    }
    OmegaConf.save(TABLE | {"cells": cells}, conf / "table/tiny.yaml")
    request = AGEM_ONCE._replace(cell_pattern="plain")
    assert reproduce_tiny(conf, request, out)[0] == 0
    assert [row["n"] for row in csv_rows(out)] == ["1", "1", "1", "0", "0", "0"]
    with pytest.raises(UserError, match="agemm"):
        reproduce_tiny(conf, request._replace(cell_pattern="typo"), out)


def test_an_output_folder_may_have_any_name(conf, tmp_path):
    out = tmp_path / "ünï (1), {a=b} 'c\\' $d [e]"
    assert reproduce_tiny(conf, AGEM_ONCE, out)[0] == 0
    assert csv_rows(out)[0]["n"] == "1"
    assert "0 still to run" in reproduce_tiny(conf, AGEM_ONCE, out)[1]


def test_a_folder_in_the_place_of_a_table_is_told_before_anything_runs(conf, tmp_path):
    (tmp_path / "out/tiny/table.md").mkdir(parents=True)
    with pytest.raises(UserError, match=r"table\.md must be a file, found a folder"):
        reproduce_tiny(conf, ALL_CELLS._replace(train_command=("false",)), tmp_path / "out")


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_runs(conf, tmp_path):
    (tmp_path / "file").write_text("")
    command = ("false",)  # which would fail, and so be told as a failed cell
    with pytest.raises(UserError, match="file"):
        reproduce_tiny(conf, ALL_CELLS._replace(train_command=command), tmp_path / "file")


def test_quick_runs_are_marked_and_neither_judged_nor_compared_nor_ranked(conf, tmp_path):
    request = ALL_CELLS._replace(cell_pattern="[Ap]*", quick=True, seed_count=3)
    _, output = reproduce_tiny(conf, request, tmp_path / "out")
    assert "a quick run is not judged" in output
    text = (tmp_path / "out/tiny-quick/table.md").read_text()
    assert "# Digits: a quick run, not the paper's setting" in text
    assert "not judged: a quick run" in text
    content = json.loads((tmp_path / "out/tiny-quick/table.json").read_text())
    assert len(content["results"]) == 2
    assert (content["comparisons"], content["ranks"]) == ([], None)


def test_a_folder_without_finished_runs_is_named_in_a_warning(conf, tmp_path):
    (tmp_path / "empty").mkdir()
    request = ALL_CELLS._replace(budget_minutes=0, finished_run_folders=(tmp_path / "empty",))
    with pytest.warns(UserWarning, match=r"--from .*empty holds no finished run"):
        reproduce_tiny(conf, request, tmp_path / "out")
