"""A disk that is full from some file on, too little memory, damaged folders: one sentence says what
is left and what to do next, and nothing half-written is taken for finished."""

import errno
import logging
import os

import pytest
import torch
from omegaconf import OmegaConf

from gradalign_cli.commands import report, training_run
from gradalign_cli.commands.train import main, mean_metric
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.results.sweep_folder import is_finished
from gradalign_cli.tables.table import load_table
from gradalign_cli.tables.writing import write_table
from tests.reports.folders import write_run

SMALL = (
    *("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]"),
    "checkpoint.minutes=1e-9",  # after every chunk of steps
)
NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder of a test, from which no logging is left."""
    handlers = list(logging.root.handlers)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    logging.root.handlers[:] = handlers


@pytest.fixture(scope="module")
def accuracy_csv(tmp_path_factory):
    """What the small run gives."""
    run = tmp_path_factory.mktemp("whole") / "run"
    main([*SMALL, "report=false", f"hydra.run.dir={run}"])
    return (run / "accuracy.csv").read_text()


@pytest.fixture
def full_disk(monkeypatch):
    """Called with the name of a file: the disk is full from its write on, and free again when what
    this returns is called."""

    def fill(name):
        fsync, is_full = os.fsync, False

        def write(descriptor):
            nonlocal is_full
            written = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
            is_full = is_full or written.startswith(f"{name}.")
            if is_full:
                raise OSError(errno.ENOSPC, NO_SPACE)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", write)
        return lambda: monkeypatch.setattr(os, "fsync", fsync)

    return fill


@pytest.mark.parametrize(
    ("first", "named", "next_step"),
    [
        ("config.yaml", "config.yaml", ""),
        ("accuracy.partial.csv", "accuracy.partial.csv", "the same command begins anew"),
        ("checkpoint.000003.safetensors", "accuracy.partial.csv", "`gradalign resume run` goes on"),
        ("forgetting.csv", "forgetting.csv", "`gradalign resume run` goes on"),
        ("accuracy.csv", "accuracy.csv", "`gradalign resume run` goes on"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*training goes on, and the last checkpoint stays")
def test_on_a_full_disk_a_run_says_how_to_go_on_and_goes_on_to_the_same_end(
    first, named, next_step, full_disk, accuracy_csv, folder, capsys
):
    free = full_disk(first)
    with pytest.raises(SystemExit, match="2"):
        main([*SMALL, "hydra.run.dir=run"])
    (line,) = capsys.readouterr().err.splitlines()
    line = line.replace(f"{folder}/", "")
    assert line.startswith(f"gradalign: cannot write run/{named}: {NO_SPACE}")
    assert next_step in line
    assert not is_finished(folder / "run")
    assert not list(folder.rglob("*.partial"))
    assert (folder / "run").exists() == bool(next_step)
    free()
    assert main([*SMALL, "hydra.run.dir=run", "resume=auto"]) == 0
    assert (folder / "run/accuracy.csv").read_text() == accuracy_csv


def test_on_a_full_disk_a_sweep_ends_in_a_sentence_or_tells_each_job_that_failed(
    full_disk, folder, capsys
):
    sweep = ["-m", *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep"]
    free = full_disk("sweep.json")
    with pytest.raises(UserError, match=rf"cannot write .*sweep/sweep.json: {NO_SPACE}"):
        main(sweep)
    free()
    assert not (folder / "sweep").exists()
    free = full_disk("metrics.json")
    assert main(sweep) == 1
    free()
    errors = capsys.readouterr().err.splitlines()
    assert [NO_SPACE in line for line in errors] == [True, True]
    assert main([*sweep, "resume=auto"]) == 0


def test_hydras_own_file_that_cannot_be_written_is_told_with_the_folder(monkeypatch, folder):
    def full(*_):
        raise OSError(errno.ENOSPC, NO_SPACE)

    monkeypatch.setattr(OmegaConf, "save", full)
    with pytest.raises(UserError, match=f"cannot run the sweep in {folder}/sweep: {NO_SPACE}; 0"):
        main(["-m", *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep"])
    assert not (folder / "sweep").exists()


def test_on_a_full_disk_a_report_keeps_the_earlier_one(full_disk, folder):
    write_run(folder / "run", "agem", (0.5, 0.6))
    report.main(["run", "--out", "out"])
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    write_run(folder / "other", "er", (0.7, 0.8))
    full_disk("report.csv")
    with pytest.raises(UserError, match=f"cannot write out/report.csv: {NO_SPACE}"):
        report.main(["run", "other", "--out", "out"])
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_on_a_full_disk_a_table_keeps_what_it_had(full_disk, folder):
    table = load_table(CONF, "ogd-2020")
    write_table(table, [], [], None, {}, folder / "table")
    before = {path.name: path.read_bytes() for path in (folder / "table").iterdir()}
    full_disk("table.md")
    with pytest.raises(UserError, match=f"cannot write .*/table/table.md: {NO_SPACE}"):
        write_table(table, [], [], None, {"cell": 1}, folder / "table")
    assert {path.name: path.read_bytes() for path in (folder / "table").iterdir()} == before


def test_a_job_that_exhausts_memory_says_what_to_make_smaller_and_the_others_go_on(
    folder, capsys, monkeypatch
):
    train_replica_groups = training_run.train_replica_groups

    def hungry(parts, replicas, engine, plan, *others):
        if plan.batch_size == 4:
            torch.empty(2**60)
        return train_replica_groups(parts, replicas, engine, plan, *others)

    monkeypatch.setattr(training_run, "train_replica_groups", hungry)
    sweep = ["-m", *SMALL, "batch_size=4,5", "hydra.sweep.dir=sweep"]
    assert main(sweep) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gradalign: there is too little memory")
    assert "smaller" in line
    assert is_finished(folder / "sweep/batch_size=5")
    assert "too little memory" in (folder / "sweep/batch_size=4/failure.txt").read_text()
    monkeypatch.setattr(training_run, "train_replica_groups", train_replica_groups)
    assert main(sweep) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", "{"),
        ("record.json", "[]"),
        ("record.json", None),
        ("metrics.json", '{"replicas": []}'),
        ("metrics.json", '{"replicas": [1]}'),
    ],
)
def test_a_damaged_folder_of_a_finished_job_is_told_with_what_to_do_next(
    name, content, folder, capsys
):
    write_run(folder / "sweep/job", "agem", (0.5,))
    (folder / "sweep/job" / name).unlink()
    if content is not None:
        (folder / "sweep/job" / name).write_text(content)
    assert main(["-m", *SMALL, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"sweep/job/{name}" in line
    assert "sweep/job and the same command runs this job again, `overwrite=true` all" in line


def test_a_metric_that_a_finished_run_could_not_measure_is_nan():
    assert str(mean_metric({"replicas": [{"ACC": 0.5}, {"ACC": None}]}, "ACC")) == "nan"
