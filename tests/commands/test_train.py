"""`gradalign train` as a user runs it, where it matters in a process of its own."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from gradalign_cli.cli import main


def gradalign(*arguments, cwd):
    """Run the command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "gradalign_cli.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Trains with given overrides in tmp_path; gives the exit code and what is on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        try:
            code = main(["train", *overrides])
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().err

    return run


def test_a_run_imports_neither_the_compiler_nor_packages_of_statistics_and_figures(tmp_path):
    """Each takes as long as a small run."""
    code = (
        "import sys; from gradalign_cli.cli import main\n"
        "main(['train', 'quick=true', 'report=false'])\n"
        "print({'torch._dynamo', 'sympy', 'scipy.stats', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout.endswith("\nset()\n")


def test_train_writes_the_run_folder(tmp_path):
    process = gradalign("train", "replicas.seed=[0,1]", "hydra.run.dir=run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "ACC" in process.stdout
    with (tmp_path / "run/accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["replica", "after_task", *(f"task_{t}" for t in range(1, 6))]
    assert len(rows) == 2 * 6
    results = json.loads((tmp_path / "run/metrics.json").read_text())
    last_rows = [row for row in rows if row["after_task"] == "5"]
    acc = [np.mean([float(row[f"task_{t}"]) for t in range(1, 6)]) for row in last_rows]
    assert [replica["ACC"] for replica in results["replicas"]] == pytest.approx(acc, abs=1e-5)
    (setting,) = results["settings"]
    assert setting["ACC"]["mean"] == pytest.approx(np.mean(acc), abs=1e-5)
    assert setting["ACC"]["mean"] > 0.85
    assert not list((tmp_path / "run").glob("*partial*"))
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["fingerprint"]
    assert record["broken_constraints"] == 0 < record["measured_steps"]
    assert record["classes"] == [[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]] * 2
    with (tmp_path / "run/alignment.csv").open() as file:
        steps = list(csv.DictReader(file))
    first_step, last_step = steps[0], steps[-1]
    assert first_step["cosine"] == ""
    assert -1 <= float(last_step["cosine"]) <= 1
    repeated = gradalign(
        "train", "--config-path", "run", "--config-name", "config",
        "hydra.run.dir=repeated", cwd=tmp_path,
    )  # fmt: skip
    assert repeated.returncode == 0, repeated.stderr
    assert (tmp_path / "repeated/accuracy.csv").read_text() == (
        tmp_path / "run/accuracy.csv"
    ).read_text()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("method=gme", "`method` has no option 'gme'; did you mean"),
        ("method.strength=1", "method.strength"),
        ("+buffer.name=x", "`buffer.name` is not a setting of ring"),
        ("batch_size=0", "`batch_size` must be a whole number of at least 1, found 0"),
        (
            "buffer.capacity=1 buffer.capacity_per=total",
            "`buffer.capacity` must give every group a slot",
        ),
        ("benchmark.classes_per_task=3", "`benchmark.classes_per_task` must be a divisor of"),
        ("replicas.lr=1e20 model.init=torch", "the loss of replica 0 became"),
        ("replicas.margin=1", "`replicas.margin` cannot vary between replicas; seed, lr can"),
        ("benchmark.dataset=nothing", "`benchmark.dataset` must be one of"),
        ("model=resnet18", "`model` must be"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_code_2(override, sentence, train, tmp_path):
    code, stderr = train(*override.split())
    assert code == 2
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert override.startswith("replicas.lr=1e20") or not list(tmp_path.iterdir())


def test_a_folder_that_is_used_again_is_unfinished_until_the_new_run_is_finished(train, tmp_path):
    arguments = ("benchmark.samples_per_task=20", "hydra.run.dir=run")
    assert train(*arguments)[0] == 0
    diverging = (*arguments, "replicas.lr=1e20", "model.init=torch", "overwrite=true")
    assert train(*diverging)[0] == 2
    assert not (tmp_path / "run/accuracy.csv").exists()
    assert not (tmp_path / "run/metrics.json").exists()


def test_parameters_that_run_away_are_warned_of_once_and_recorded(train, tmp_path):
    overrides = ("method=mas", "method.strength=1.0", "benchmark.scenario=domain")
    with pytest.warns(UserWarning, match="run away with method mas") as warned:
        code, stderr = train(*overrides, "hydra.run.dir=run")
    assert code == 0, stderr
    (warning,) = [str(entry.message) for entry in warned]
    (runaway,) = json.loads((tmp_path / "run/record.json").read_text())["runaways"]
    assert "replica 0 (seed 0, lr 0.1)" in warning
    assert f"in task {runaway['task']}, step {runaway['step']}" in warning
    assert warning.endswith("try a smaller `replicas.lr` or `method.strength`")


def test_replicas_whose_step_size_a_method_warns_of_are_named_once(train):
    small = ("method=mer", "benchmark.samples_per_task=2", "benchmark.first_tasks=2")
    assert train(*small, "replicas.lr=[0.05,0.1]") == (0, "")
    with pytest.warns(UserWarning, match="MER's gamma") as warned:
        train(*small, "replicas.lr=[0.2,0.1,0.3]")
    (warning,) = [str(entry.message) for entry in warned]
    assert warning.endswith("(replica 0, 2)")
