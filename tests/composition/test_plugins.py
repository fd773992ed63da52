"""Plugins that are installed as packages: used where they are named, and not otherwise."""

import sys

import pytest

from gradalign_cli.cli import main
from gradalign_cli.commands.completion import completions
from gradalign_cli.composition import targets
from gradalign_cli.composition.plugins import (
    installed_plugins,
    plugin_config_folders,
    typed_plugins,
)
from tests.commands.test_list import words

SMALL = ("benchmark.first_tasks=2", "benchmark.samples_per_task=5", "model.widths=[4]")
CODE = """from gradalign_cli import Method

def thirds() -> Method:
    return Method(lambda gradients, state: (gradients.g / 3, state), references="pooled")
"""


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """A folder with an installed package that brings the plugin `thirds`."""
    package, info = tmp_path / "gradalign_thirds", tmp_path / "gradalign_thirds-1.0.dist-info"
    (package / "conf/method").mkdir(parents=True)
    (package / "__init__.py").write_text(CODE)
    yaml = "# A third of the gradient.\nname: by_thirds\n_target_: gradalign_thirds.thirds\n"
    (package / "conf/method/by_thirds.yaml").write_text(yaml)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gradalign-thirds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gradalign.plugins]\nthirds = gradalign_thirds\n")
    plugins = list(targets.PLUGINS)
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path
    targets.PLUGINS[:] = plugins
    sys.modules.pop("gradalign_thirds", None)


def test_an_installed_plugin_runs_where_it_is_named_and_its_method_is_unknown_elsewhere(
    site, capsys
):
    assert main(["train", "method=by_thirds", "hydra.run.dir=run", *SMALL]) == 2
    assert "no option 'by_thirds'" in capsys.readouterr().err
    assert "gradalign_thirds" not in sys.modules
    run = ("method=by_thirds", "plugins=[thirds]", "hydra.run.dir=run", *SMALL)
    assert main(["train", *run]) == 0
    assert (site / "run/metrics.json").exists()


def test_list_explain_check_info_and_completion_know_it(capsys):
    assert main(["list"]) == 0
    assert "installed plugin thirds, of gradalign_thirds: plugins=[thirds]" in words(
        capsys.readouterr().out
    )
    assert main(["info"]) == 0
    assert "thirds" in capsys.readouterr().out
    assert completions("gradalign train plugins=[thirds] method=by_") == ["method=by_thirds"]
    assert completions("gradalign train method=by_") == []
    assert "gradalign_thirds" not in sys.modules  # nothing of it ran so far
    assert main(["explain", "by_thirds", "plugins=[thirds]"]) == 0
    assert "A third of the gradient." in capsys.readouterr().out


def test_being_installed_is_no_trust_for_a_target(site, capsys):
    (site / "mine/method").mkdir(parents=True)
    yaml = "name: sent\n_target_: gradalign_thirds.thirds\n"
    (site / "mine/method/sent.yaml").write_text(yaml)
    run = ("train", "--config-dir", "mine", "method=sent", "hydra.run.dir=run", *SMALL)
    with pytest.raises(SystemExit, match="2"):
        main([*run])
    assert "plugins=[gradalign_thirds]" in capsys.readouterr().err
    assert "gradalign_thirds" not in sys.modules


def test_plugins_are_read_off_the_overrides_and_found_without_an_import(site):
    assert installed_plugins()["thirds"] == "gradalign_thirds"
    assert typed_plugins(["method=gem", "plugins=[a,b.c]"]) == ["a", "b.c"]
    assert typed_plugins(["plugins=[", "method=gem"]) == typed_plugins(["plugins=5"]) == []
    assert plugin_config_folders(["thirds", "unknown"]) == [
        (site / "gradalign_thirds/conf").resolve()
    ]
    assert "gradalign_thirds" not in sys.modules
