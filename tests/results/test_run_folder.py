"""A run's folder belongs to one run, and a finished one is not replaced without being asked to."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from gradalign_cli.commands.training_run import train
from gradalign_cli.composition.compose import compose_config
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError
from gradalign_cli.results import run_folder
from gradalign_cli.results.run_folder import RUN_FILES, RunFolder
from gradalign_cli.training.outcome import Outcome

CHECKPOINT = "checkpoint.000001.safetensors"
SMALL = ("benchmark.samples_per_task=10", "benchmark.first_tasks=2", "model.widths=[8]")


def train_small(folder, *overrides):
    """A small run in a folder."""
    config = OmegaConf.create(compose_config(CONF, (*SMALL, *overrides)).settings)
    return train(config, folder, Console(quiet=True))


def contents(folder):
    """The text of every file of a folder, by name."""
    return {p.name: p.read_text(errors="replace") for p in folder.iterdir() if p.is_file()}


def test_learning_curves_are_kept_and_their_mean_is_lca(tmp_path):
    results = train_small(tmp_path / "run", "metrics.lca_batches=2", "replicas.seed=[0, 1]")
    header, *lines = (tmp_path / "run" / "learning_curves.csv").read_text().splitlines()
    assert header == "replica,task,step,accuracy"
    rows = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    assert rows[:, :3].tolist() == [[r, k, s] for r in (0, 1) for k in (1, 2) for s in (0, 1, 2)]
    for r in (0, 1):
        mean = rows[rows[:, 0] == r, 3].mean()
        assert results["replicas"][r]["LCA2"] == pytest.approx(mean, abs=1e-5)


def test_a_replica_keeps_the_images_in_memory_and_the_state_of_its_method(tmp_path):
    def kept(name, *overrides):
        train_small(tmp_path / name, *overrides)
        return json.loads((tmp_path / name / "record.json").read_text())["kept_bytes"]

    er = ("method=er", "buffer=reservoir", "buffer.capacity=7")
    one = kept("one", *er)
    record = json.loads((tmp_path / "one" / "record.json").read_text())
    assert record["stored_examples"] == [7]
    assert kept("two", *er, "replicas.seed=[0, 1]") == one
    image, slot, counters = 64, 3 * 8, 8
    assert one == 7 * (image + slot) + counters
    nothing = kept("finetune", "method=finetune", "buffer.capacity=7")
    state = kept("ewc", "method=ewc", "buffer.capacity=7") - nothing
    params = 64 * 8 + 8 + 8 * 10 + 10
    fisher_and_old_params = 2 * 4 * params
    assert 0 <= state - fisher_and_old_params <= 8


def test_a_finished_run_stays_as_it_is_unless_it_may_be_overwritten(tmp_path):
    train_small(tmp_path / "run")
    finished = contents(tmp_path / "run")
    assert set(finished) <= set(RUN_FILES)
    with pytest.raises(UserError, match="holds a finished run; `overwrite=true` replaces it"):
        train_small(tmp_path / "run", "replicas.lr=0.2")
    assert contents(tmp_path / "run") == finished
    train_small(tmp_path / "run", "replicas.lr=0.2", "overwrite=true")
    replaced = contents(tmp_path / "run")
    assert replaced.keys() == finished.keys()
    assert replaced["alignment.csv"] != finished["alignment.csv"]
    assert "overwrite: false" in replaced["config.yaml"]  # else a repeated run would replace others
    with pytest.raises(UserError, match="`overwrite` must be true or false, found 3"):
        train_small(tmp_path / "other", "overwrite=3")
    assert not (tmp_path / "other").exists()


def test_a_finished_run_is_found_before_any_data_is_read(tmp_path):
    """Also one whose other files were lost, as accuracy.csv is written last."""
    (tmp_path / "accuracy.csv").touch()
    with pytest.raises(UserError, match="holds a finished run"):
        train_small(tmp_path, "benchmark.dataset=nothing")


def test_a_folder_in_use_is_refused_and_nothing_in_it_is_touched(tmp_path):
    first = RunFolder(tmp_path, initial_files={"config.yaml": "first"})
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()} on"):
        RunFolder(tmp_path, overwrite=True, initial_files={"config.yaml": "second"})
    with pytest.raises(UserError, match="in use by process"):
        train_small(tmp_path, "overwrite=true")
    assert contents(tmp_path) == before
    first.release()
    RunFolder(tmp_path, initial_files={"config.yaml": "second"}).release()
    assert contents(tmp_path)["config.yaml"] == "second"


def test_what_an_unfinished_run_left_is_removed_and_other_files_stay(tmp_path):
    stale = ("record.json", "metrics.json", "continual.csv", "accuracy.partial.csv")
    partial = ("metrics.json.01234567.partial", ".hydra/config.yaml.01234567.partial")
    mine = (
        *("notes.txt", "thesis.partial", "my_record.json", "record.json.partial"),
        *("checkpoint.best.safetensors", "checkpoint.best.safetensors.partial"),
    )
    (tmp_path / ".hydra").mkdir()
    for name in (*stale, *partial, *mine, CHECKPOINT, f"{CHECKPOINT}.01234567.partial"):
        (tmp_path / name).write_text(name)
    (tmp_path / "alignment.csv").write_text("replica,task,step,loss of an earlier version\n")
    texts = {".hydra/config.yaml": "new"}
    RunFolder(tmp_path, initial_files=texts, replaces_unfinished=True).release()
    assert set(contents(tmp_path)) == {*mine, "alignment.csv"}
    assert contents(tmp_path / ".hydra") == {"config.yaml": "new"}


def test_an_unfinished_run_that_can_go_on_is_not_replaced_unasked(tmp_path):
    RunFolder(tmp_path, initial_files={"config.yaml": "first"}).release()
    RunFolder(tmp_path, initial_files={"config.yaml": "second"}).release()  # nothing is lost
    (tmp_path / CHECKPOINT).write_text("hours of work")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"unfinished run; `gradalign resume .*`overwrite=true`"):
        train_small(tmp_path)
    assert contents(tmp_path) == before
    train_small(tmp_path, "overwrite=true")
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("name", [*RUN_FILES, ".hydra/config.yaml", CHECKPOINT])
def test_a_users_own_files_are_not_those_of_an_unfinished_run(name, tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / name).write_text("mine")
    files = {".hydra/config.yaml": "new"}
    if name == "failure.txt":  # a job that failed before it began leaves it alone
        RunFolder(tmp_path, initial_files=files).release()
        assert not (tmp_path / name).exists()
        return
    finished = "a finished run" if name == "accuracy.csv" else f"not those of a run, such as {name}"
    with pytest.raises(UserError, match=f"{finished}.*; `overwrite=true` replaces"):
        RunFolder(tmp_path, initial_files=files)
    assert (tmp_path / name).read_text() == "mine"
    RunFolder(tmp_path, overwrite=True, initial_files=files).release()
    assert contents(tmp_path / ".hydra") == {"config.yaml": "new"}


@pytest.mark.parametrize("written_files", [0, 1])
def test_a_run_that_was_killed_as_it_began_may_begin_again(written_files, tmp_path, monkeypatch):
    """As long as there is one of its files, there is alignment.csv."""
    files = {"config.yaml": "x", ".hydra/config.yaml": "x"}
    remaining_writes = iter(range(written_files))

    def write_or_be_killed(path, text, write=run_folder.write_atomically):
        if next(remaining_writes, None) is None:
            raise SystemExit
        write(path, text)

    RunFolder(tmp_path, initial_files=files).release()
    monkeypatch.setattr(run_folder, "write_atomically", write_or_be_killed)
    with pytest.raises(SystemExit):
        RunFolder(tmp_path, initial_files=files)
    (tmp_path / "run.lock").unlink(missing_ok=True)  # a killed process holds no lock
    monkeypatch.undo()
    RunFolder(tmp_path, initial_files=files).release()
    assert contents(tmp_path)["config.yaml"] == "x"


def test_links_in_the_folder_are_replaced_and_the_folder_itself_may_be_one(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    (tmp_path / "mine").write_text("mine")
    for name in ("alignment.csv", "config.yaml", "accuracy.partial.csv", "run.lock"):
        (tmp_path / "scratch" / name).symlink_to(tmp_path / "mine")
    folder = RunFolder(tmp_path / "run", True, {"config.yaml": "new"})
    folder.begin_replica_group([0])
    folder.after_test(0, torch.ones(1, 2))
    assert (tmp_path / "mine").read_text() == "mine"
    assert not any(path.is_symlink() for path in (tmp_path / "scratch").iterdir())
    assert (tmp_path / "scratch/config.yaml").read_text() == "new"
    (tmp_path / "scratch/alignment.csv").unlink()
    (tmp_path / "scratch/alignment.csv").symlink_to(tmp_path / "mine")  # while the run is on
    with pytest.raises(UserError, match=r"cannot write .*alignment\.csv"):
        folder.begin_replica_group([0])
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_link_to_another_folder_in_the_place_of_hydras_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.hydra").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"\.hydra must be a folder, found a symbolic link"):
        RunFolder(tmp_path / "run", initial_files={".hydra/config.yaml": "new"})
    assert os.listdir(tmp_path / "elsewhere") == []
    assert os.listdir(tmp_path / "run") == [".hydra"]


@pytest.mark.parametrize("files", [{"config.yaml": "x"}, {".hydra/config.yaml": "x"}, {}])
def test_a_run_that_cannot_write_its_first_files_leaves_nothing(files, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    if not files:
        monkeypatch.setattr("csv.writer", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        RunFolder(tmp_path / "new" / "run", initial_files=files)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/run", "pipe", "x" * 300, "/proc/gradalign"])
def test_a_folder_that_cannot_be_is_refused_in_a_sentence(place, tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot make the folder"):
        train_small(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_the_lock_goes_with_the_results(tmp_path):
    folder = RunFolder(tmp_path)
    assert (tmp_path / "run.lock").read_text().startswith(f"process {os.getpid()} on ")
    folder.begin_replica_group([0])
    folder.after_test(0, torch.ones(1, 2))
    accuracy = np.ones((1, 3, 2))
    outcome = Outcome._make([None] * len(Outcome._fields))._replace(accuracy=accuracy)
    folder.finish(outcome, {}, {})
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "accuracy.csv", "alignment.csv", "forgetting.csv", "metrics.json", "record.json",
    }  # fmt: skip


def test_a_run_that_fails_frees_its_folder_and_says_why_in_the_record(tmp_path):
    with pytest.raises(UserError, match="replica 0") as error:
        train_small(tmp_path, "replicas.lr=1e20", "model.init=torch")
    assert not (tmp_path / "run.lock").exists()
    reason, _, left = str(error.value).rpartition("; ")
    assert left == f"{tmp_path} is an unfinished run"
    assert reason in (tmp_path / "record.json").read_text()
