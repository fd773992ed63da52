"""How commands end: one sentence and an exit code for whatever goes wrong."""

import errno
import logging
import os
import sys

import pytest
import torch

from gradalign_cli import __version__
from gradalign_cli.cli import main
from gradalign_cli.commands import list, train
from gradalign_cli.commands.exit import report
from gradalign_cli.commands.verbs import VERBS
from gradalign_cli.composition import targets
from gradalign_cli.errors import Terminated, UserError


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch):
    """Restore what Hydra changes of the process."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    monkeypatch.setattr(root, "level", root.level)


def raising(error):
    """A function that raises the error."""

    def function(*arguments, **options):
        raise error

    return function


ALLOCATOR = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes"


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (UserError("`a` must be\nb"), "`a` must be b", 2),
        (OSError(errno.ENOSPC, "No space left"), "cannot write: No space left", 2),
        (OSError(errno.EROFS, "Read-only", "/x"), "cannot write /x: Read-only", 2),
        (FileNotFoundError(errno.ENOENT, "None", "/x"), "cannot read or write /x: None", 2),
        (PermissionError(errno.EACCES, "Denied", b"/x"), "cannot read or write /x: Denied", 2),
        (MemoryError(), "there is too little memory: make `buffer.capacity`", 2),
        (RuntimeError(ALLOCATOR), "too little memory, when 4000 bytes more were needed: make", 2),
        (torch.OutOfMemoryError("Tried to allocate 2.00 GiB."), "when 2.00 GiB more were", 2),
        (KeyboardInterrupt(), "stopped by Ctrl-C\n", 130),
        (Terminated(), "stopped by SIGTERM\n", 143),
        (RuntimeError("shapes"), "this is a bug in gradalign: please report it", 1),
    ],
)
def test_an_error_becomes_one_sentence_and_an_exit_code(error, sentence, code, monkeypatch, capsys):
    monkeypatch.delenv("GRADALIGN_DEBUG", raising=False)
    monkeypatch.setattr(list, "main", raising(error))
    assert main(["list"]) == code
    stderr = capsys.readouterr().err
    last_line = stderr.splitlines(keepends=True)[-1]
    assert last_line.startswith("gradalign: ")
    assert sentence in last_line
    assert ("Traceback" in stderr) == (code == 1)
    assert (stderr == last_line) == (code != 1)


def test_a_bug_may_be_one_of_the_modules_that_the_user_named(monkeypatch, capsys):
    monkeypatch.setattr(targets, "PLUGINS", ["mine"])
    monkeypatch.setattr(list, "main", raising(RuntimeError("shapes")))
    assert main(["list"]) == 1
    assert (
        "a bug in mine or in gradalign: `gradalign check` tries a part" in capsys.readouterr().err
    )


def test_the_traceback_of_a_mistake_is_shown_where_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(list, "main", raising(UserError("wrong")))
    for value, is_shown in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("GRADALIGN_DEBUG", value)
        assert main(["list"]) == 2
        stderr = capsys.readouterr().err
        assert ("Traceback" in stderr) == is_shown
        assert stderr.endswith("gradalign: wrong\n")


def test_a_full_disk_is_said_with_the_folder_that_is_written_to(capsys):
    assert report(OSError(errno.ENOSPC, "No space left"), "/my/run") == 2
    assert capsys.readouterr().err == "gradalign: cannot write /my/run: No space left\n"


def test_a_misspelt_verb_is_answered_with_the_nearest_one(capsys):
    assert main(["trian"]) == 2
    sentence = "gradalign: there is no verb 'trian'; did you mean `train`?\n"
    assert capsys.readouterr().err == sentence
    assert main(["qqq"]) == 2
    assert "there are train, resume, reproduce," in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_tells_the_version(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([*([verb] if verb else []), "--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"gradalign {__version__}\n"


@pytest.mark.parametrize("arguments", [["list", "--gro"], ["list", "metods"], ["data", "prepare"]])
def test_arguments_that_a_verb_does_not_take_are_refused_in_one_sentence(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_only_words_that_may_not_be_left_out_are_asked_for(capsys):
    assert main(["resume"]) == 2
    assert capsys.readouterr().err.startswith(
        "gradalign: the following arguments are required: RUN_DIR; `gradalign resume --help`"
    )


def test_options_are_not_abbreviated(tmp_path, capsys):
    assert main(["data", "--data", str(tmp_path), "status"]) == 2
    assert "`gradalign data --help` tells more" in capsys.readouterr().err


def test_brackets_in_text_are_printed_as_they_are(tmp_path, capsys):
    folder = tmp_path / "out[/b]put[red]"
    folder.mkdir(parents=True)
    assert main(["data", "--data-dir", os.fspath(folder), "status"]) == 0
    assert "out[/b]put[red]" in "".join(capsys.readouterr().out.split())


SMALL = ["benchmark.first_tasks=2", "benchmark.samples_per_task=10", "hydra.job.chdir=false"]


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (OSError(errno.ENOSPC, "No space left"), "gradalign: cannot write RUN: No space left", 2),
        (
            KeyboardInterrupt(),
            "stopped by Ctrl-C; RUN is an unfinished run without a checkpoint",
            130,
        ),
        (RuntimeError("shapes"), "gradalign: this is a bug in gradalign", 1),
    ],
)
def test_a_run_says_how_it_ended_and_what_is_left(
    error, sentence, code, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(train, "train", raising(error))
    try:
        exit_code = main(["train", *SMALL, f"hydra.run.dir={tmp_path}/run"])
    except SystemExit as end:
        exit_code = end.code
    assert exit_code == code
    assert sentence.replace("RUN", f"{tmp_path}/run") in capsys.readouterr().err


def test_a_sweep_goes_on_after_failed_jobs_and_its_exit_code_is_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "train", raising(UserError("wrong")))
    arguments = ["batch_size=1,2", f"hydra.sweep.dir={tmp_path}"]
    assert main(["train", "-m", *SMALL, *arguments]) == 1
    assert capsys.readouterr().err.count("gradalign: wrong\n") == 2


def test_a_stopped_sweep_says_how_many_jobs_are_finished(tmp_path, monkeypatch, capsys):
    def train_until_stopped(config, folder, console, files, **_):
        if config.batch_size == 2:
            raise Terminated
        (folder / "accuracy.csv").write_text("")

    monkeypatch.setattr(train, "train", train_until_stopped)
    arguments = ["batch_size=1,2,3", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert main(["train", "-m", *SMALL, *arguments]) == 143
    sentence = f"stopped by SIGTERM; 1 job is finished, in {tmp_path}/sweep; the same command"
    assert sentence in capsys.readouterr().err
