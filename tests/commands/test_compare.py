"""`gradalign compare` trains what is missing and reports on all of it; a run draws its page."""

import json
import re

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands import compare
from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.reports import run_page
from tests.own_digits import write_own_digits

SMALL = ("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]")


@pytest.fixture
def sweeps(tmp_path, monkeypatch):
    """The arguments of each sweep that a test's comparisons start, in the test's folder."""
    started = []

    def run_jobs(job, arguments):
        started.append([word for word in arguments if word.startswith(("method=", "replicas."))])
        return real(job, arguments)

    real = compare.run_jobs
    monkeypatch.setattr(compare, "run_jobs", run_jobs)
    monkeypatch.chdir(tmp_path)
    return started


def rows_of(folder):
    (path,) = folder.glob("outputs/compare/*/report.md")
    rows = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    return {row.split(" | ")[0][2:]: row.split(" | ")[1] for row in rows[1:]}


def test_runs_on_data_that_has_changed_are_run_again(sweeps, tmp_path, recwarn):
    for pixel, sweep_count in ((0, 1), (0, 1), (9, 2)):
        own_digits = write_own_digits(tmp_path, pixel)
        assert compare.main(["finetune", "er", "--seeds", "1", *own_digits, *SMALL]) == 0
        assert len(sweeps) == sweep_count
    assert sweeps[0] == sweeps[1]
    warnings = [str(warning.message) for warning in recwarn]
    assert sum("is trained anew; the finished run" in text for text in warnings) == 2
    assert rows_of(tmp_path) == {"finetune": "1", "er": "1"}


def test_finished_runs_are_not_run_again(sweeps, tmp_path):
    assert compare.main(["finetune", "er", "--seeds", "1", *SMALL]) == 0
    assert sweeps == [["method=finetune,er", "replicas.seed=[0]"]]
    assert compare.main(["er", "finetune", "--seeds", "1", "--by", "LA", *SMALL]) == 0
    assert len(sweeps) == 1
    assert compare.main(["finetune", "agem", "--seeds", "2", *SMALL]) == 0
    assert sweeps[1:] == [
        ["method=finetune", "replicas.seed=[1]"], ["method=agem", "replicas.seed=[0,1]"],
    ]  # fmt: skip
    assert rows_of(tmp_path) == {"finetune": "2", "agem": "2"}


def test_a_run_that_another_command_finishes_meanwhile_is_taken(tmp_path, monkeypatch):
    """The other command starts the same sweep just before."""
    times = []

    def run_jobs(job, arguments):
        real(job, arguments)
        times.append(write_time(tmp_path))
        return real(job, arguments)

    real = compare.run_jobs
    monkeypatch.setattr(compare, "run_jobs", run_jobs)
    monkeypatch.chdir(tmp_path)
    assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    assert times == [write_time(tmp_path)]
    assert rows_of(tmp_path) == {"er": "1"}


def test_a_finished_run_of_a_version_with_other_numbers_is_kept_beside_the_new_one(
    sweeps, tmp_path
):
    assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    (file,) = tmp_path.glob("outputs/compare/*/*/er/record.json")
    of_then = json.dumps(json.loads(file.read_text()) | {"numerics": -1})
    file.write_text(of_then)
    with pytest.warns(UserWarning, match=r"er is trained anew; .* is kept as er_kept_1"):
        assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    assert len(sweeps) == 2
    assert (file.parent.with_name("er_kept_1") / "record.json").read_text() == of_then
    assert (file.parent / "accuracy.csv").exists()
    assert rows_of(tmp_path) == {"er": "1"}


def test_a_damaged_run_is_named_and_kept_beside_the_new_one(sweeps, tmp_path):
    assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    (file,) = tmp_path.glob("outputs/compare/*/*/er/metrics.json")
    file.write_text(file.read_text().replace('"ACC": 0', '"ACC": 1', 1))
    with (
        pytest.warns(UserWarning, match="er is left out: `ACC` "),
        pytest.warns(UserWarning, match="the damaged run that was there is kept as er_damaged_1"),
    ):
        assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    assert compare.main(["er", "--seeds", "1", *SMALL]) == 0
    assert len(sweeps) == 2
    assert rows_of(tmp_path) == {"er": "1"}


def write_time(folder):
    """When the only run below a folder was finished."""
    (file,) = folder.glob("outputs/compare/*/*/*/accuracy.csv")
    return file.stat().st_mtime_ns


def test_a_failed_run_is_code_1_and_the_others_are_reported(sweeps, tmp_path):
    overrides = ("benchmark.scenario=class", "stream=task_free", "buffer=reservoir")
    assert compare.main(["finetune", "gem", "--seeds", "1", *overrides, *SMALL]) == 1
    assert rows_of(tmp_path) == {"finetune": "1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["agen"], "`METHOD` must be a method .* found 'agen'; did you mean `agem`"),
        (["batch_size=5"], "`METHOD` must be given"),
        (["er", "--seeds", "0"], "`--seeds` must be at least 1 and at most 1000, found 0"),
        (["er", "replicas.seed=[3]"], "`replicas.seed` is set by compare itself"),
        (["er", "hydra.sweep.dir=x"], "`hydra.sweep.dir` is set by compare itself"),
        (["er", "--baseline", "agem"], "`--baseline` must be one of the methods, found 'agem'"),
        (["er", "batch_size=0"], "`batch_size` must be a whole number of at least 1"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(arguments, sentence, sweeps, tmp_path):
    with pytest.raises(UserError, match=sentence):
        compare.main(arguments)
    assert not list(tmp_path.iterdir())
    assert not sweeps


def test_a_run_draws_its_page_unless_it_shall_not(tmp_path, draws_pages):
    config = OmegaConf.create(compose_config(CONF, [*SMALL, "method=er"]).settings)
    train(config, tmp_path / "page", Console(quiet=True))
    text = (tmp_path / "page/report.html").read_text()
    (replica,) = json.loads((tmp_path / "page/metrics.json").read_text())["replicas"]
    assert f"{100 * replica['ACC']:.2f}" in re.search("<table.*?</table>", text, re.DOTALL)[0]
    assert 'id="accuracy"' in text
    config.report = False
    train(config, tmp_path / "none", Console(quiet=True))
    assert not (tmp_path / "none/report.html").exists()


def test_a_run_is_finished_though_its_page_cannot_be_written(tmp_path, monkeypatch):
    def refuse(folder, title):
        raise UserError("the disk is full")

    monkeypatch.setattr(run_page, "write_run_page", refuse)
    config = OmegaConf.create(compose_config(CONF, SMALL).settings)
    with pytest.warns(UserWarning, match=r"report.html is not written: the disk is full"):
        train(config, tmp_path / "run", Console(quiet=True))
    assert (tmp_path / "run/accuracy.csv").exists()
