import math
from xml.etree import ElementTree

import pytest

from gradalign_cli.cli import main
from gradalign_cli.commands.explain import direction_at_angle
from gradalign_cli.composition.paths import CONF
from tests.methods.catalogue import METHODS, method


def test_in_the_plane_agem_keeps_a_gradient_without_conflict_and_projects_any_other():
    for degrees in (0, 45, 90):
        direction = direction_at_angle(method("agem"), degrees).tolist()
        assert direction == pytest.approx([1, 0], abs=1e-12)
    direction = direction_at_angle(method("agem"), 120).tolist()
    expected = [math.sin(math.radians(30)) ** 2 * 3, math.sin(math.radians(60)) / 2]
    assert direction == pytest.approx(expected)


def test_where_gradient_and_reference_are_opposed_agems_direction_is_zero():
    assert direction_at_angle(method("agem"), 180).norm() < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_explained(name, capsys):
    assert main(["explain", name]) == 0
    output = capsys.readouterr().out
    assert "settings:" in output
    assert "backward passes" in output


def test_the_buffer_that_a_methods_config_chooses_is_named(capsys):
    assert main(["explain", "der"]) == 0
    assert "buffer unless another is chosen: reservoir" in capsys.readouterr().out
    assert main(["explain", "gem"]) == 0
    assert "buffer" not in capsys.readouterr().out


def test_the_picture_shows_gradient_reference_and_direction_at_seven_angles(tmp_path, capsys):
    assert main(["explain", "mega2", "--picture", str(tmp_path / "mega2.svg")]) == 0
    svg = ElementTree.parse(tmp_path / "mega2.svg")
    arrows = svg.findall("{*}polygon")
    assert len(arrows) == 7 * 3
    rotations = [float(a.get("transform").split("rotate(")[1].rstrip(")")) for a in arrows]
    assert rotations[1::3] == [0, -30, -60, -90, -120, -150, -180]  # references; y points down
    assert set(rotations[2::3]) == {0}  # gradients


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["agme"], "`METHOD` must be one of adam_nscl, agem,"),
        (["er", "--picture", "x.svg"], "`--picture` needs a method with references, er has none"),
        (["agem", "--picture", "no/where/x.svg"], "`--picture` cannot be written"),
        (["agem", "--picture", "x.png"], "`--picture` must end in .svg, found 'x.png'"),
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
