import sys

import pytest
from omegaconf import OmegaConf

from gradalign_cli.composition import targets
from gradalign_cli.composition.construct import call_target
from gradalign_cli.composition.targets import allow_plugins, target_function
from gradalign_cli.errors import UserError

HALF = """
from gradalign_cli.methods.method import Method
import torch.hub
def half() -> Method:
    return Method(lambda gradients, state: (gradients.g, state), references="pooled")
def unannotated():
    return Method(lambda gradients, state: (gradients.g, state), references="pooled")
def wrong():
    return 5
def ends():
    raise SystemExit(0)
def misspelt() -> Method:
    return Method(lambda gradients, state: (gradients.g, state), references="poold")
"""


@pytest.fixture
def plugin_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "PLUGINS", [])
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "half_of_the_user").mkdir()
    (tmp_path / "half_of_the_user/__init__.py").write_text("")
    (tmp_path / "half_of_the_user/methods.py").write_text(HALF)
    (tmp_path / "module_of_a_stranger.py").write_text("raise SystemExit('was imported')")
    return tmp_path


def refusal(group, target):
    """Why a target is refused."""
    with pytest.raises(UserError) as error:
        target_function(group, {"_target_": target})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("method", "torch.hub.load_state_dict_from_url"),
        ("method", "os.system"),
        ("method", "module_of_a_stranger.half"),
        ("method", "gradalign_cli.methods_of_a_stranger.half"),
        ("method", "gradalign_cli.buffers.ring.ring"),
        ("optimizer", "gradalign_cli.methods.agem.agem"),
        ("method", "gradalign_cli.results.run_folder.write_atomically"),
        ("method", "gradalign_cli.methods.agem.torch.hub.load_state_dict_from_url"),
        ("method", "gradalign_cli.methods.agem.project"),
        ("method", "gradalign_cli.methods.method.Method"),
        ("method", "gradalign_cli.methods.agem.nothing"),
        ("method", ""),
        ("method", None),
        ("method", 5),
        ("method", ["os.system"]),
    ],
)
def test_a_target_is_a_function_of_the_groups_folder_that_makes_its_part(
    group, target, plugin_folder
):
    allow_plugins([], [plugin_folder])
    assert f"`{group}._target_`" in refusal(group, target)


def test_functions_of_listed_modules_and_their_submodules_are_called(plugin_folder):
    assert "plugins=[half_of_the_user]" in refusal("method", "half_of_the_user.methods.half")
    for plugins in (["half_of_the_user"], ["half_of_the_user.methods"]):
        allow_plugins(plugins, [plugin_folder])
        for name in ("half", "unannotated"):
            target = f"half_of_the_user.methods.{name}"
            assert (
                call_target("method", OmegaConf.create({"_target_": target})).references == "pooled"
            )
        assert "torch.hub" in refusal(
            "method", "half_of_the_user.methods.torch.hub.load_state_dict_from_url"
        )
        wrong = OmegaConf.create({"_target_": "half_of_the_user.methods.wrong"})
        with pytest.raises(UserError, match="must be what returns a Method, found 5"):
            call_target("method", wrong)
        ends = OmegaConf.create({"_target_": "half_of_the_user.methods.ends"})
        with pytest.raises(UserError, match=r"returns a Method, found that .* by sys\.exit\(0\)"):
            call_target("method", ends)
        misspelt = OmegaConf.create({"_target_": "half_of_the_user.methods.misspelt"})
        with pytest.raises(UserError, match=r"`Method\.references` must be one of nothing, poo"):
            call_target("method", misspelt)
    (plugin_folder / "half_of.py").touch()
    allow_plugins(["half_of"], [plugin_folder])
    refusal("method", "half_of_the_user.methods.half")


@pytest.mark.parametrize("plugins", [5, None, "os", [""], ["a b"], ["../x"], [5], ["a."]])
def test_plugins_are_names_of_modules(plugins, plugin_folder):
    with pytest.raises(UserError, match="`plugins` must be a list of names of modules"):
        allow_plugins(plugins, [])


@pytest.mark.parametrize(
    "plugin", ["nope", "half_of_the_user.nope", "half_of_the_user.methods.half", "nope.methods"]
)
def test_plugins_are_modules_that_are_there_and_none_is_imported_to_see_it(plugin, plugin_folder):
    allow_plugins(["module_of_a_stranger", "half_of_the_user.methods"], [plugin_folder])
    with pytest.raises(UserError, match=f"`plugins` must be .*working folder.*found '{plugin}'"):
        allow_plugins([plugin], [plugin_folder])
    assert targets.PLUGINS == ["module_of_a_stranger", "half_of_the_user.methods"]
    assert "module_of_a_stranger" not in sys.modules


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("half_of_the_user.methods.hlf", r"methods\.py has no `hlf`; did you mean `half`\?"),
        ("half_of_the_user.method.half", r"__init__\.py has no `method`"),
        ("divides.half", r"division by zero \(.*divides\.py, line 2\)"),
        ("imports.half", r"No module named 'nope' \(.*imports\.py, line 1\)"),
        ("misspells.half", r"expected ':' \(misspells\.py, line 1\)"),
    ],
)
def test_why_a_target_cannot_be_imported_is_told_with_its_place(target, reason, plugin_folder):
    (plugin_folder / "divides.py").write_text("\n1 / 0")
    (plugin_folder / "imports.py").write_text("import nope")
    (plugin_folder / "misspells.py").write_text("def half() Method:")
    allow_plugins([target.split(".")[0]], [plugin_folder])
    with pytest.raises(UserError, match=f"`method._target_` cannot be imported: .*{reason}"):
        target_function("method", {"_target_": target})


def test_a_module_that_ends_the_program_when_it_is_imported_is_refused(plugin_folder):
    allow_plugins(["module_of_a_stranger"], [plugin_folder])
    assert "sys.exit('was imported')" in refusal("method", "module_of_a_stranger.half")
