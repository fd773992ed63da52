import math
import sys
from xml.etree import ElementTree

import pytest

from gradalign_cli.cli import main
from gradalign_cli.commands.explain import direction_at_angle
from gradalign_cli.commands.list import method_table
from gradalign_cli.composition.paths import CONF
from tests.commands.test_list import page, refusal, words
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
    output = page(capsys, "explain", name)
    facts = ("settings:", "objective:", "references:", "must be told of tasks:", "keeps:", "paper:")
    assert all(fact in output for fact in (*facts, "backward passes:"))
    turns = method(name).references != "nothing"
    assert all((column in output) == turns for column in ("turned by:", "length:", "product:"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_an_explanation_fits_the_width_and_cuts_nothing(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    output = page(capsys, "explain", "trgp")
    assert all(len(line.rstrip()) <= width for line in output.splitlines())
    text = words(output)
    assert "GPM that reuses the old tasks a new one resembles (Lin et al. 2022)." in text
    rule = method_table(CONF)["trgp"]["rule"]
    assert all(word in text for word in rule.split())
    assert "method.max_trusted_tasks=2" in text
    assert "where a task ends" in text


def test_settings_have_defaults_types_and_comments_and_may_be_changed(capsys):
    assert "method.margin=0.5 number lower bound on" in words(page(capsys, "explain", "gem"))
    changed = words(page(capsys, "explain", "gem", "method.margin=0"))
    assert "method.margin=0 number" in changed
    assert "105° 15° 0.97 0.00" in changed
    assert "105° 15° 0.97 0.00" not in words(page(capsys, "explain", "gem"))


def test_where_gradient_and_reference_are_opposed_words_stand_in_the_place_of_a_number(capsys):
    mega2 = words(page(capsys, "explain", "mega2"))
    assert "180° no plane 1.00 -1.00" in mega2
    assert "mega2 follows the gradient as it is" in mega2
    assert "Just below 180° it turns by 90°" in mega2
    agem = words(page(capsys, "explain", "agem"))
    assert "180° - 0.00 0.00" in agem
    assert "-: nothing is left of the gradient" in agem
    eps = words(page(capsys, "explain", "eps_soft_gem"))
    assert "180° 180° 0.10 0.10" in eps
    assert "nothing is left" not in eps


def test_a_users_method_is_explained(capsys, tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "half.yaml").write_text(
        "# Half [1/2].\nname: half\n_target_: gradalign_cli.methods.eps_soft_gem.eps_soft_gem\n"
        "eps: 0.3 # mine\n"
    )
    text = words(page(capsys, "explain", "half", "--config-dir", str(tmp_path), "method.eps=0.4"))
    assert text.startswith("Half [1/2].")
    assert "method.eps=0.4 number mine" in text
    assert "180° 180° 0.40 0.40" in text


def test_a_users_method_whose_code_is_a_plugin_is_explained(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "twice.yaml").write_text(
        "name: twice\n_target_: explained_twice.twice\n"
    )
    (tmp_path / "explained_twice.py").write_text(
        "from gradalign_cli.methods.method import Method\n\n\ndef twice():\n"
        '    """Twice the reference."""\n'
        "    return Method(lambda g, s: (2 * g.references[0], s), references='pooled')\n"
    )
    arguments = ["explain", "twice", "--config-dir", str(tmp_path)]
    text = words(page(capsys, *arguments, "plugins=[explained_twice]"))
    assert "Twice the reference." in text
    assert "90° 90° 2.00 2.00" in text
    assert "explained_twice" in refusal(capsys, *arguments)


def test_the_buffer_that_a_methods_config_chooses_is_named(capsys):
    sentence = "buffer unless another is chosen: "
    assert f"{sentence}reservoir" in page(capsys, "explain", "der")
    assert sentence not in page(capsys, "explain", "gem")


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
        (["agme"], "found 'agme'; did you mean `agem` or `agem_r`?"),
        (["gem", "method.margn=1"], "margn"),
        (["gem", "--config-dir", "no/where"], "`--config-dir` must be a folder"),
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
