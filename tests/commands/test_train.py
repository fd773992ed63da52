"""The command as a user runs it, in a process of its own."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest


def gradalign(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "gradalign_cli.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_train_writes_the_run_folder(tmp_path):
    ran = gradalign("train", "replicas.seed=[0,1]", "hydra.run.dir=run", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "ACC" in ran.stdout
    with (tmp_path / "run/accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["replica", "after_task", *(f"task_{t}" for t in range(1, 6))]
    assert len(rows) == 2 * 6
    results = json.loads((tmp_path / "run/metrics.json").read_text())
    last = [r for r in rows if r["after_task"] == "5"]
    acc = [np.mean([float(r[f"task_{t}"]) for t in range(1, 6)]) for r in last]
    assert [r["ACC"] for r in results["replicas"]] == pytest.approx(acc, abs=1e-5)
    assert results["summary"]["ACC"]["mean"] == pytest.approx(np.mean(acc), abs=1e-5)
    assert results["summary"]["ACC"]["mean"] > 0.85
    with (tmp_path / "run/alignment.csv").open() as file:
        steps = list(csv.DictReader(file))
    first, later = steps[0], steps[-1]
    assert first["cosine"] == ""
    assert -1 <= float(later["cosine"]) <= 1
    assert json.loads((tmp_path / "run/record.json").read_text())["fingerprint"]
    again = gradalign(
        "train", "--config-path", str(tmp_path / "run"), "--config-name", "config",
        "hydra.run.dir=again", cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/accuracy.csv").read_text() == (
        tmp_path / "run/accuracy.csv"
    ).read_text()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("method=gme", "Could not find 'method/gme'"),
        ("method.strength=1", "method.strength"),
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
def test_a_mistake_ends_in_one_sentence_and_code_2(override, sentence, tmp_path):
    ran = gradalign("train", *override.split(), cwd=tmp_path)
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "Traceback" not in ran.stderr


def test_a_folder_that_is_used_again_is_unfinished_until_the_new_run_is(tmp_path):
    arguments = ("train", "benchmark.samples_per_task=20", "hydra.run.dir=run")
    assert gradalign(*arguments, cwd=tmp_path).returncode == 0
    ran = gradalign(*arguments, "replicas.lr=1e20", "model.init=torch", cwd=tmp_path)
    assert ran.returncode == 2
    assert not (tmp_path / "run/accuracy.csv").exists()
    assert not (tmp_path / "run/metrics.json").exists()
