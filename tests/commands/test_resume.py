"""`gradalign resume`: an unfinished run goes on from its folder, or one sentence says why not."""

import json
import logging
import os
import subprocess
import sys

import pytest
import torch

from gradalign_cli.cli import main
from gradalign_cli.files.locking import FolderLock
from gradalign_cli.results import run_identity
from gradalign_cli.training import checkpoints

SMALL = (
    *("benchmark.first_tasks=3", "benchmark.samples_per_task=30", "model.widths=[8]", "threads=1"),
    *("metrics.lca_batches=2", "metrics.continual_every=2", "memory_batch=6", "alignment.every=1"),
    *("benchmark.scenario=class", "replicas.seed=[0,1]"),
)
TIMES = (
    *("setup_seconds", "training_seconds", "evaluation_seconds", "steps_per_second"),
    *("peak_memory_bytes",),
)


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch):
    """Restore what Hydra changes of the process."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    monkeypatch.setattr(root, "level", root.level)
    yield
    torch.set_num_threads(1)


def results(folder):
    """The content of every csv and json of a finished run, times aside."""
    contents = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    contents["metrics.json"] = (folder / "metrics.json").read_bytes()
    record = json.loads((folder / "record.json").read_text())
    contents["record.json"] = {name: record[name] for name in record if name not in TIMES}
    assert len(contents) == 8
    return contents


def refusal(arguments, capsys):
    """The sentence on stderr with which a command is refused."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    return capsys.readouterr().err


def files_of(folder):
    """The content of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def interrupted(folder, monkeypatch, capsys, writes=2):
    """A run that Ctrl-C ends right after so many checkpoints; gives what it said at the end."""
    write, left = checkpoints.write_checkpoint, [writes]

    def write_and_stop(*arguments):
        write(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_checkpoint", write_and_stop)
        assert main(["train", *SMALL, f"hydra.run.dir={folder}"]) == 130
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of the run, in a process with another hash seed and working folder, and without
    checkpoints."""
    folder = tmp_path_factory.mktemp("elsewhere")
    process = subprocess.run(
        [sys.executable, "-m", "gradalign_cli.cli", "train", *SMALL, "hydra.run.dir=run"],
        cwd=folder,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return results(folder / "run")


def test_a_resumed_run_has_the_bytes_of_one_in_another_process_that_was_not_interrupted(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "a 'run' of mine"
    said = interrupted(tmp_path / "run", monkeypatch, capsys)
    assert f"; `gradalign resume {tmp_path / 'run'}` goes on\n" in said
    (tmp_path / "run").rename(folder)  # a run may move
    config = (folder / "config.yaml").read_text()
    assert main(["resume", str(folder)]) == 0
    assert "goes on from checkpoint.000002.safetensors" in capsys.readouterr().out
    assert results(folder) == uninterrupted
    assert (folder / "config.yaml").read_text() == config
    assert list(folder.glob("checkpoint*")) == []
    assert main(["resume", str(folder)]) == 2
    assert "found a finished one in" in capsys.readouterr().err


def test_with_resume_auto_the_same_command_goes_on_and_otherwise_starts_anew(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    interrupted(tmp_path, monkeypatch, capsys)
    command = ["train", *SMALL, f"hydra.run.dir={tmp_path}", "resume=auto"]
    assert main(command) == 0
    assert "goes on from" in capsys.readouterr().out
    assert results(tmp_path) == uninterrupted
    assert main([*command, "overwrite=true"]) == 0
    assert "goes on from" not in capsys.readouterr().out
    both = results(tmp_path)
    assert both["accuracy.csv"] == uninterrupted["accuracy.csv"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["batch_size=3"], "`batch_size` was 10 when it began, found 3"),
        (["passes=2"], "`passes` was 1 when it began, found 2"),
        (["optimizer.momentum=0.5"], "`optimizer.momentum` was 0.0 when it began, found 0.5"),
        (["threads=2"], "`threads` was 1 when it began, found 2"),
        (["engine=eager"], "`engine` was 'graph' when it began, found 'eager'"),
    ],
)
def test_a_run_that_is_another_one_now_is_refused_and_nothing_changes(
    overrides, sentence, unfinished, capsys
):
    before = files_of(unfinished)
    said = refusal(["resume", str(unfinished), *overrides], capsys)
    assert f"the run in {unfinished} cannot go on: {sentence}; " in said
    assert files_of(unfinished) == before


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """The folder of a run that was interrupted."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HYDRA_FULL_ERROR", "1")
        patched.setattr(sys, "argv", sys.argv)

        def write_and_stop(*arguments, write=checkpoints.write_checkpoint):
            write(*arguments)
            raise KeyboardInterrupt

        patched.setattr(checkpoints, "write_checkpoint", write_and_stop)
        assert main(["train", *SMALL, "engine=graph", f"hydra.run.dir={folder}"]) == 130
    return folder


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("__version__", "9.9", "`gradalign` was "),
        ("NUMERICS", 99, "`numerics` was "),
        (
            "data_fingerprint",
            lambda benchmark: "other",
            "the examples of its benchmark are others than",
        ),
    ],
)
def test_another_version_or_other_data_are_refused(
    name, value, sentence, unfinished, monkeypatch, capsys
):
    before = files_of(unfinished)
    monkeypatch.setattr(run_identity, name, value)
    assert f"cannot go on: {sentence}" in refusal(["resume", str(unfinished)], capsys)
    assert files_of(unfinished) == before


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_says_so_once(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    interrupted(tmp_path, monkeypatch, capsys)
    os.truncate(tmp_path / "checkpoint.000002.safetensors", 1000)
    with pytest.warns(UserWarning, match="000002.safetensors is damaged and is left out") as said:
        assert main(["resume", str(tmp_path)]) == 0
    assert sum("damaged" in str(warning.message) for warning in said) == 1
    assert "goes on from checkpoint.000001.safetensors" in capsys.readouterr().out
    assert results(tmp_path) == uninterrupted


def test_a_folder_that_has_nothing_to_go_on_from_is_refused(tmp_path, capsys):
    cases = {
        "found no config.yaml in": (),
        "has no checkpoint to go on from; `gradalign train --config-path": ("config.yaml",),
        "has no checkpoint that is not damaged; `gradalign train": (
            *("config.yaml", "checkpoint.000001.safetensors"),
        ),
    }
    assert main(["resume", str(tmp_path / "missing")]) == 2
    assert "found no folder" in capsys.readouterr().err
    for sentence, names in cases.items():
        for name in names:
            (tmp_path / name).write_text("name: x")
        assert main(["resume", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_run_that_another_process_is_writing_is_not_resumed(unfinished, capsys):
    lock = FolderLock(unfinished)
    said = refusal(["resume", str(unfinished)], capsys)
    assert f"{unfinished} is in use by process" in said
    lock.release()
