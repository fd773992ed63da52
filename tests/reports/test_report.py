"""A report groups by what differs, compares on common seeds, and says what is not comparable."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gradalign_cli.commands.report import main
from gradalign_cli.errors import UserError
from gradalign_cli.reports.report import make_report
from gradalign_cli.reports.rows import verdict
from gradalign_cli.reports.text import cell_texts, column_names, note_on_few_seeds
from gradalign_cli.reports.writing import comma_separated, latex, markdown
from gradalign_cli.results.significance import holm_corrected, paired_difference
from tests.reports.folders import noisy, write_run

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def three_methods(tmp_path):
    """Runs of three methods over six seeds, in the folder of a sweep."""
    for number, (method, mean) in enumerate({"finetune": 0.3, "agem": 0.302, "er": 0.8}.items()):
        write_run(tmp_path / "sweep" / f"method={method}", method, noisy(mean, seed=number))
    return tmp_path / "sweep"


def labels(report):
    return [row.group.label for row in report.rows]


def test_rows_are_called_by_the_fewest_settings_that_differ(tmp_path):
    write_run(tmp_path / "a", "agem", buffer__capacity=20)
    write_run(tmp_path / "b", "agem", buffer__capacity=50, device="cpu", data_dir="/x")
    write_run(tmp_path / "c", "er", (0.9, 0.9), buffer__capacity=50, memory_batch=3)
    report = make_report([tmp_path])
    assert sorted(labels(report)) == [
        "agem, buffer.capacity=20", "agem, buffer.capacity=50", "er, buffer.capacity=50",
    ]  # fmt: skip
    assert labels(report)[0] == "er, buffer.capacity=50"


def test_seeds_of_several_runs_of_one_setting_make_one_row(tmp_path):
    write_run(tmp_path / "a", "agem", (0.5, 0.6), seeds=(0, 1))
    write_run(tmp_path / "b", "agem", (0.7, 0.9), seeds=(2, 1))
    report = make_report([tmp_path / "b", tmp_path / "a", tmp_path])
    (row,) = report.rows
    assert row.summaries["ACC"]["n"] == 3
    assert sorted(row.group.values("ACC").items()) == [(0, 0.5), (1, 0.9), (2, 0.7)]
    assert "left out: 1 replica with a seed that its row has already" in report.warnings


def test_numbers_of_replicas_make_rows_and_intervals_are_over_their_seeds_alone(tmp_path):
    write_run(tmp_path / "a", "er", (0.5, 0.6, 0.7))
    write_run(tmp_path / "b", "er", (0.1, 0.2, 0.3), lr=0.03)
    rows = make_report([tmp_path]).rows
    assert [row.group.label for row in rows] == ["lr=0.1", "lr=0.03"]
    low, high = stats.t.interval(0.95, 2, 0.6, 0.1 / np.sqrt(3))
    assert rows[0].summaries["ACC"]["ci95_low"] == pytest.approx(low)
    assert rows[0].summaries["ACC"]["ci95_high"] == pytest.approx(high)


def test_differences_are_paired_by_seed_and_verdicts_follow_interval_and_test(three_methods):
    report = make_report([three_methods], baseline="finetune")
    rows = {row.group.label: row for row in report.rows}
    assert rows["finetune"].difference is None
    assert rows["er"].verdict == "higher"
    assert rows["agem"].verdict == "not distinguishable"
    seeds = [rows[name].group.values("ACC") for name in ("er", "finetune")]
    differences = [seeds[0][seed] - seeds[1][seed] for seed in range(6)]
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert rows["er"].difference.p_value == pytest.approx(test.pvalue)
    assert rows["er"].p_value == pytest.approx(2 * test.pvalue)  # Holm, two rows
    low, high = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (rows["er"].difference.low, rows["er"].difference.high) == pytest.approx((low, high))


def test_five_seeds_are_judged_by_the_interval_and_the_report_says_so(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/a", "agem", noisy(0.3, 5))
    write_run(tmp_path / "runs/b", "er", noisy(0.8, 5, 1))
    assert main(["runs", "--baseline", "method=agem"]) == 0
    printed = capsys.readouterr().out
    assert "higher" in printed
    assert "over 5 seeds and 1 row p cannot fall below 0.062" in printed


@pytest.mark.parametrize("n", [3, 5, 6, 7, 8])
def test_a_further_row_makes_no_verdict_easier(n):
    """Wherever the others' p-values stand in the order by which Holm corrects."""
    source, told_apart = np.random.default_rng(0), 0
    for _ in range(200):
        differences = [paired_difference(source.normal(1, 0.7, n)) for _ in range(8)]
        verdicts = []
        for k in range(1, 9):
            corrected = holm_corrected([difference.p_value for difference in differences[:k]])
            verdicts.append(verdict(differences[0], corrected[0], k))
        higher = verdicts.count("higher")
        assert verdicts == ["higher"] * higher + ["not distinguishable"] * (8 - higher)
        told_apart += higher
    assert told_apart


def test_differences_of_one_sign_are_enough_and_needed_where_the_test_is_out_of_reach():
    of_one_sign, others = [0.1, 0.1, 0.1, 0.1, 0.05], [0.1, 0.1, 0.1, 0.1, -0.001]
    for differences, words in ((of_one_sign, "higher"), (others, "not distinguishable")):
        difference = paired_difference(differences)
        assert difference.low > 0
        assert verdict(difference, difference.p_value, 1) == words
        corrected = holm_corrected([difference.p_value, paired_difference(of_one_sign).p_value])
        assert verdict(difference, corrected[0], 2) == words


def test_the_note_on_few_seeds_names_a_bound_that_holds_for_every_row():
    assert note_on_few_seeds([6, 6]).startswith(
        "over 6 seeds and 2 rows p cannot fall below 0.062:"
    )
    assert note_on_few_seeds([10, 3]).startswith("over 3 seeds p cannot fall below 0.25:")


def test_a_row_without_a_seed_of_the_baseline_is_not_called_the_baseline(tmp_path):
    write_run(tmp_path / "a", "agem", (0.1, 0.2), seeds=(0, 1))
    write_run(tmp_path / "b", "er", (0.9, 0.4), seeds=(2, 3))
    rows = make_report([tmp_path], baseline="agem").rows
    assert column_names(rows, "ACC")[-3:] == ["ACC - baseline", "p", "verdict"]
    last_cells = {row.group.label: cell_texts(row, rows, "ACC")[-3:] for row in rows}
    assert last_cells == {"er": ["-", "-", "no common seeds"], "agem": ["-", "-", "baseline"]}


def test_n_is_the_number_of_seeds_that_have_the_metric(tmp_path):
    write_run(tmp_path / "a", "er", (0.9, 0.4, 0.5))
    path = tmp_path / "a" / "metrics.json"
    content = json.loads(path.read_text())
    content["replicas"][0]["min_ACC"] = 0.3
    path.write_text(json.dumps(content))
    for metric, n in (("ACC", "3"), ("min_ACC", "1")):
        (row,) = make_report([tmp_path], metric).rows
        assert cell_texts(row, [row], metric)[1] == n


def test_warnings_go_to_stderr_and_one_seed_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/a", "agem", (0.5,), quick=True)
    assert main(["runs"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "warning: 1 of 1 run quick, in small\n"
    assert "a number of one seed has no interval" in printed.out


def test_only_common_seeds_are_compared(tmp_path):
    write_run(tmp_path / "a", "agem", (0.1, 0.2, 0.3), seeds=(0, 1, 2))
    write_run(tmp_path / "b", "er", (0.9, 0.4, 0.5), seeds=(7, 1, 2))
    report = make_report([tmp_path], baseline="agem")
    assert report.rows[0].difference.n == 2
    assert report.rows[0].difference.mean == pytest.approx(0.2)
    assert "rows have other seeds" in report.warnings


def test_conditions_choose_rows_by_any_setting(three_methods):
    assert labels(make_report([three_methods], conditions=["method=agem,er"])) == ["er", "agem"]
    assert labels(make_report([three_methods], conditions=["buffer=ring", "method=er"])) == ["er"]
    with pytest.raises(UserError, match=r"`--where` must name a setting .*did you mean `method`"):
        make_report([three_methods], conditions=["methid=agem"])
    with pytest.raises(
        UserError, match=r"must leave a run, found 'method=gem'; method is agem, er"
    ):
        make_report([three_methods], conditions=["method=gem"])
    with pytest.raises(UserError, match="must be NAME=VALUE, found 'agem'"):
        make_report([three_methods], conditions=["agem"])


def test_a_lower_forgetting_is_better(three_methods):
    assert labels(make_report([three_methods], sort_metric="forgetting"))[0] == "er"
    with pytest.raises(UserError, match=r"`--by` must be a metric of the runs, found 'AC'"):
        make_report([three_methods], sort_metric="AC")


def test_a_baseline_must_be_one_row(three_methods):
    with pytest.raises(UserError, match=r"`--baseline` must be of one row, found \["):
        make_report([three_methods], baseline="buffer=ring")
    with pytest.raises(UserError, match="`--baseline` must be a row or NAME=VALUE, found 'eer'"):
        make_report([three_methods], baseline="eer")


def test_what_makes_rows_incomparable_is_said(tmp_path):
    write_run(tmp_path / "a", "agem", quick=True)
    write_run(tmp_path / "b", "er", (0.1,), benchmark__dataset="mnist")
    write_run(
        tmp_path / "c",
        "gem",
        record={"fingerprint": "other", "numerics": 1, "stored_examples": [9, 9]},
    )
    write_run(tmp_path / "d", "mer", record={"runaways": [{"replica": 0}]})
    write_run(tmp_path / "unfinished")
    (tmp_path / "unfinished/accuracy.csv").unlink()
    text = " / ".join(make_report([tmp_path]).warnings)
    for sentence in (
        "rows differ in benchmark.dataset: digits, mnist", "rows differ in quick: false, true",
        "rows have other numbers of seeds: 1, 2", "1 of 4 runs quick",
        "met other streams", "versions whose numbers differ by more than rounding",
        "memories of other sizes: 9 examples (`gem", "; 50 examples (`",
        "left out: 1 unfinished run, unfinished", "ran away in 1 run: d",
    ):  # fmt: skip
        assert sentence in text


def test_rows_on_examples_that_have_changed_are_said(tmp_path):
    write_run(tmp_path / "a", "agem", record={"data": "one"})
    write_run(tmp_path / "b", "er", record={"data": "one"})
    write_run(tmp_path / "c", "mer")  # of a version that does not say
    write_run(tmp_path / "d", "gem", record={"data": "other"}, benchmark__samples_per_task=20)
    assert not [text for text in make_report([tmp_path]).warnings if "met other" in text]
    write_run(tmp_path / "e", "der", record={"data": "other"})
    (sentence,) = [text for text in make_report([tmp_path]).warnings if "met other" in text]
    assert sentence.startswith("runs of the same benchmark met other examples")


def test_rows_on_other_parts_of_a_dataset_are_said(tmp_path):
    write_run(tmp_path / "a", "agem", benchmark__samples_per_task=20)
    write_run(tmp_path / "b", "er", benchmark__samples_per_task=None)
    (sentence,) = make_report([tmp_path]).warnings
    assert sentence == "rows differ in benchmark.samples_per_task: 20, null"


def test_a_label_that_names_a_capacity_hides_no_other_size(tmp_path):
    """agem's is one of each task, er's in total."""
    write_run(tmp_path / "a", "agem", record={"stored_examples": [250, 250]})
    write_run(tmp_path / "b", "er")
    write_run(tmp_path / "c", "er", buffer__capacity=20, record={"stored_examples": [20, 20]})
    report = make_report([tmp_path])
    assert sorted(labels(report))[0] == "agem, buffer.capacity=50"
    (sentence,) = report.warnings
    assert "50 examples (`er, buffer.capacity=50`); 250 examples (`agem, " in sentence


def test_comparable_rows_have_no_warning(three_methods):
    assert make_report([three_methods], baseline="er").warnings == []


HEADER = "replica,after_task,task_1\n"
HOSTILE = {
    "no record": ("record.json", None, "cannot read"),
    "a record that is a list": ("record.json", "[]", "must be a mapping, found list"),
    "accuracy above 1": (
        "accuracy.csv", HEADER + "0,0,7\n0,1,1\n1,0,1\n1,1,1\n", "must hold fractions",
    ),
    "text as accuracy": ("accuracy.csv", HEADER + "0,0,=cmd\n", "a table of numbers"),
    "too few rows": ("accuracy.csv", HEADER + "0,0,1\n", "must have T + 1 rows"),
    "NaN": ("metrics.json", '{"replicas": [{"seed": 0, "ACC": NaN}]}', "`ACC` must be a number"),
    "metrics of other accuracies": (
        "metrics.json",
        json.dumps({"replicas": [{"seed": 0, "lr": 0.1}, {"seed": 1, "lr": 0.1, "ACC": 0.9}]}),
        "`ACC` of metrics.json must be that of accuracy.csv, 0.6, found 0.9",
    ),
    "a deep config": (
        "record.json", json.dumps({"config": 0}).replace("0", '{"a":' * 300 + "0" + "}" * 300),
        "must be the config of a run",
    ),
    "a huge file": ("metrics.json", " " * (2**23 + 1), "must have at most 8388608 bytes"),
    "text as costs": ("record.json", "costs", "`training_seconds` must be non-negative, found 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_one_line_and_the_others_are_reported(kind, tmp_path):
    name, content, sentence = HOSTILE[kind]
    write_run(tmp_path / "good", "er")
    bad = write_run(tmp_path / "bad", "agem")
    if content == "costs":
        record = json.loads((bad / name).read_text()) | {"training_seconds": "x"}
        content = json.dumps(record)
    (bad / name).unlink()
    if content is not None:
        (bad / name).write_text(content)
    report = make_report([tmp_path])
    assert labels(report) == ["er"]
    (line,) = [line for line in report.warnings if "bad is left out" in line]
    assert sentence in line
    assert line.isprintable()


def test_settings_of_strangers_are_cut_and_printable(tmp_path):
    write_run(tmp_path / "a", "agem", passes="\x1b[2J" + "x" * 1000)
    write_run(tmp_path / "b", "agem")
    assert all(
        label.isprintable() and len(label) < 200 for label in labels(make_report([tmp_path]))
    )


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="`DIR` must be a folder of runs, found"):
        make_report([tmp_path / "nothing"])
    with pytest.raises(UserError, match="`DIR` must hold a finished run, found none"):
        make_report([tmp_path])


def test_links_below_a_folder_are_not_followed(tmp_path):
    write_run(tmp_path / "runs/a", "er")
    write_run(tmp_path / "elsewhere", "agem")
    (tmp_path / "runs/link").symlink_to(tmp_path / "elsewhere")
    assert len(make_report([tmp_path / "runs"]).rows) == 1


WRITERS = {
    "csv": lambda report: comma_separated(report.rows, report.sort_metric),
    "md": lambda report: markdown(report.rows, report.sort_metric, report.warnings),
    "tex": lambda report: latex(report.rows, report.sort_metric),
}


@pytest.mark.parametrize("form", WRITERS)
def test_the_table_is_written_as_in_the_golden_file(form, three_methods):
    write_run(three_methods / "strange", "a_b|c<&", noisy(0.5, seed=3))
    report = make_report([three_methods], baseline="finetune")
    assert WRITERS[form](report) == (GOLDEN / f"report.{form}").read_text()


def test_csv_has_every_metric_as_a_fraction(three_methods):
    report = make_report([three_methods], baseline="finetune")
    lines = list(csv.DictReader(io.StringIO(comma_separated(report.rows, report.sort_metric))))
    assert [(line["method"], line["metric"]) for line in lines[:3]] == [
        ("er", "ACC"), ("er", "BWT"), ("er", "forgetting"),
    ]  # fmt: skip
    assert float(lines[0]["mean"]) == pytest.approx(0.8, abs=0.02)


def test_the_verb_writes_three_files_and_imports_no_torch(three_methods, tmp_path):
    code = (
        "import sys; from gradalign_cli.commands.report import main;"
        f"main([{str(three_methods)!r}, '--out', {str(tmp_path / 'out')!r}]);"
        "sys.exit(bool({'torch', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.csv", "report.md", "report.tex"} <= names
    shutil.rmtree(tmp_path / "out")


def test_settings_that_differ_in_a_late_digit_or_letter_make_rows_of_their_own(tmp_path):
    write_run(tmp_path / "a", "er", (0.5, 0.6), lr=0.1)
    write_run(tmp_path / "b", "er", (0.7, 0.8), lr=0.1000001)
    assert labels(make_report([tmp_path])) == ["lr=0.1000001", "lr=0.1"]
    for name in ("c", "d"):
        write_run(tmp_path / "long" / name, "er", (0.5, 0.6), buffer__text="x" * 100 + name)
    assert len(make_report([tmp_path / "long"]).rows) == 2


def test_a_report_is_not_written_over_a_run_or_to_a_file(tmp_path, three_methods):
    run = three_methods / "method=er"
    (tmp_path / "file").write_text("")
    before = sorted(path.name for path in run.iterdir())
    for arguments, message in (
        (["--out", str(run)], "beside the runs"),
        (["--out", ""], "`--out` must be the path of a folder"),
        (["--out", str(tmp_path / "file")], "`--out` must be the path of a folder"),
        (["--figures", str(tmp_path / "file")], "`--figures` must be the path of a folder"),
    ):
        with pytest.raises(UserError, match=message):
            main([str(three_methods), *arguments])
    assert sorted(path.name for path in run.iterdir()) == before
