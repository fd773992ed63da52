import math

import pytest

from gradalign_cli.cli import CONF, main
from gradalign_cli.explain import turned
from tests.methods.catalogue import METHODS, method


def test_in_the_plane_agem_keeps_a_safe_gradient_and_projects_any_other():
    for degrees in (0, 45, 90):
        assert turned(method("agem"), degrees).tolist() == pytest.approx([1, 0], abs=1e-12)
    found = turned(method("agem"), 120).tolist()
    expected = [math.sin(math.radians(30)) ** 2 * 3, math.sin(math.radians(60)) / 2]
    assert found == pytest.approx(expected)


def test_opposed_gradients_leave_agem_nothing():
    assert turned(method("agem"), 180).norm() < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_explained(name, capsys):
    assert main(["explain", name]) == 0
    shown = capsys.readouterr().out
    assert "settings:" in shown
    assert "backward passes" in shown


def test_the_picture_is_written(tmp_path, capsys):
    assert main(["explain", "mega2", "--picture", str(tmp_path / "mega2.svg")]) == 0
    assert "<svg" in (tmp_path / "mega2.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["agme"], "`METHOD` must be one of agem"),
        (["er", "--picture", "x.svg"], "`--picture` needs a method with references, er has none"),
        (["agem", "--picture", "no/where/x.svg"], "`--picture` cannot be written"),
        (["agem", "--picture", "x.what"], "`--picture` cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_the_configs_are_where_the_command_looks():
    assert (CONF / "method" / "agem.yaml").exists()
