"""`gradalign list` and `gradalign data` at several widths, and with a user's own parts."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from gradalign_cli.cli import main
from gradalign_cli.commands.list import GROUPS
from gradalign_cli.composition.paths import CONF
from tests.methods.catalogue import METHODS

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (60, 80, 200)


def words(text):
    """A text as if it stood in one line."""
    return " ".join(text.split())


def page(capsys, *arguments):
    """What a command that succeeds prints."""
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def refusal(capsys, *arguments):
    """The one line that a command that is refused prints."""
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def config_names(group):
    return {path.stem for path in (CONF / group).glob("*.yaml")}


@pytest.fixture
def mine(tmp_path):
    """A user's folder of configs, with a method of its own and one that has the name of ours."""
    (tmp_path / "mine" / "method").mkdir(parents=True)
    for name in ("half", "agem"):
        (tmp_path / "mine" / "method" / f"{name}.yaml").write_text(f"# Half [1/2] of {name}.\n")
    return str(tmp_path / "mine")


@pytest.mark.parametrize("width", WIDTHS)
def test_list_names_every_choice_with_its_whole_sentence_and_the_number_of_choices(
    width, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", str(width))
    output = page(capsys, "list")
    assert all(len(line.rstrip()) <= width for line in output.splitlines())
    for group in GROUPS:
        names = config_names(group.removesuffix("s"))
        assert f"{group} ({len(names)}): gradalign" in output
        assert names <= {line.split()[0] for line in output.splitlines() if line.strip()}
    assert "project out the component against" in words(output)
    assert "(Chaudhry et al. 2019)." in words(output)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_methods_are_listed_with_all_their_columns_at_every_width(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    output = page(capsys, "list", "methods")
    assert all(len(line.rstrip()) <= width for line in output.splitlines())
    names = {line.split()[0] for line in output.splitlines() if line[:1].strip()}
    assert set(METHODS) <= names
    for column in ("rule", "keeps", "passes", "task ids", "bytes", "paper", "tests"):
        assert re.search(rf"^{column}: ", output, re.MULTILINE)  # in the caption
    own_tests, shared_tests = (
        len(re.findall(r"^def test_", (ROOT / f"tests/methods/test_{n}.py").read_text(), re.M))
        for n in ("ewc", "contract")
    )
    cells = "2 P|0|at ends|2.2 M|1612.00796|" + rf"{own_tests} \+ {shared_tests}"
    if width == 200:
        assert re.search(cells.replace("|", " +"), output)
    else:
        labels = ["keeps: ", " passes: ", ", task ids: ", ", bytes: ", ", paper: ", ", tests: "]
        text = "".join(a + b for a, b in zip(labels, cells.split("|"), strict=True))
        assert re.search(text, words(output))


def test_a_program_that_reads_the_list_gets_a_line_for_each_choice(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = page(capsys, "list", "buffers").rstrip().splitlines()
    assert len(lines) == 1 + len(config_names("buffer"))
    assert "\x1b" not in "".join(lines)
    assert all(line.split()[1:] for line in lines)


def test_one_group_is_listed_alone_by_its_name_in_singular_or_plural(capsys):
    assert page(capsys, "list", "buffer") == page(capsys, "list", "buffers")
    assert "agem" not in page(capsys, "list", "buffers")
    assert "gem-2017-table3" in page(capsys, "list", "tables")
    assert "gradalign train +experiment=NAME" in page(capsys, "list", "experiments")


def test_the_datasets_are_listed_as_data_status_shows_them(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADALIGN_DATA", str(tmp_path))
    output = page(capsys, "list", "datasets")
    assert output == page(capsys, "data", "status")
    assert "digits" in output
    assert "cifar100" in output


def test_parts_of_the_users_folder_are_marked(mine, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # so that no path is divided
    for group in ("methods", "method"):
        output = words(page(capsys, "list", group, "--config-dir", mine))
        assert f"half [in {mine}] Half [1/2] of half." in output
        assert f"agem [in {mine}: not taken, as ours has this name] Half [1/2] of agem." in output
    assert f"methods ({len(METHODS) + 2})" in page(capsys, "list", "--config-dir", mine)
    assert "`--config-dir` must be a folder" in refusal(capsys, "list", "--config-dir", "no/where")


@pytest.mark.parametrize(("group", "end"), [("bufers", "; did you mean `buffers`?"), ("qqq", "'")])
def test_a_group_that_there_is_not_is_answered_with_the_nearest(group, end, capsys):
    error = refusal(capsys, "list", group)
    assert "`GROUP` must be one of methods, buffers," in error
    assert error.rstrip().endswith(f"found {group!r}{end}".replace("''", "'"))


@pytest.mark.parametrize("width", WIDTHS)
def test_data_status_shows_shapes_and_sentences_whole(width, capsys, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("COLUMNS", str(width))
    x = tiny.images[:, 0, 0]  # no images: a row of pixels each
    labels = tiny.labels
    arrays = {"x_train": x, "y_train": labels, "x_test": x, "y_test": labels}
    np.savez(tmp_path / "mine.npz", **arrays)
    output = page(capsys, "data", "--data-dir", str(tmp_path), "status")
    assert "[n, height, width, channels] or [n, channels, height, width] with" in words(output)
    assert "1 x 8 x 8" in words(output)
    assert "1437" in output
    assert "`gradalign data prepare mnist` downloads it" in words(output)
    assert "image: channels x height x width" in words(output)


def test_unknown_datasets_are_refused_before_any_is_prepared(capsys, tmp_path):
    folder = ["data", "--data-dir", str(tmp_path), "prepare"]
    error = refusal(capsys, *folder, "digits", "mnits")
    assert error.rstrip().endswith("found 'mnits'; did you mean `mnist`, `kmnist` or `emnist`?")
    assert list(tmp_path.iterdir()) == []
    assert page(capsys, *folder, "digits").strip() == str(tmp_path / "digits.npz")


def test_a_pipe_in_the_users_folder_is_refused_at_once(tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    os.mkfifo(tmp_path / "experiment/waits.yaml")
    error = refusal(capsys, "list", "experiments", "--config-dir", str(tmp_path))
    assert "must be a regular file, found a named pipe" in error
