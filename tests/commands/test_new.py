"""`gradalign new` and `gradalign check`: what is written runs at once, and keeps the contract."""

import importlib
import shlex
import sys
from pathlib import Path

import pytest

from gradalign_cli.cli import main
from gradalign_cli.commands.new import KINDS
from gradalign_cli.composition import targets

SMALL = ("benchmark.samples_per_task=5", "model.widths=[4]")
RUN = {
    "method": SMALL,
    "buffer": ("method=er", *SMALL),
    "benchmark": ("benchmark.tasks=2", "model.widths=[4]", "batch_size=500"),
    "model": ("benchmark.samples_per_task=5",),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working folder, from which no trust and no module is left."""
    plugins, modules = list(targets.PLUGINS), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")
    yield tmp_path
    targets.PLUGINS[:] = plugins
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def refusal(capsys, *arguments):
    assert main([*arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_part_runs_passes_its_test_and_keeps_the_contract(kind, folder, capsys):
    name = f"fresh_{kind}"
    assert main(["new", kind, name]) == 0
    printed = capsys.readouterr().out
    for file in (f"mine/{kind}/{name}.yaml", f"mine/{name}.py", f"mine/test_{name}.py"):
        assert (folder / file).exists()
        assert f"wrote {file}" in printed
    choice = [f"{kind}={name}", f"plugins=[{name}]", "--config-dir", "mine"]
    assert f"gradalign check {' '.join(choice)}" in printed.replace("'", "")
    assert main(["train", *choice, "hydra.run.dir=run", *RUN[kind]]) == 0
    assert (folder / "run/metrics.json").exists()
    tests = importlib.import_module(f"test_{name}")
    cases = [test for test in vars(tests) if test.startswith("test_")]
    for case in cases:
        getattr(tests, case)()
    assert cases
    capsys.readouterr()
    assert main(["check", *choice]) == 0
    assert " 0 are broken" in capsys.readouterr().out


def test_the_next_commands_can_be_typed_as_they_are(folder, capsys):
    assert main(["new", "method", "fish", "--config-dir", "my parts"]) == 0
    train, test, check = map(shlex.split, capsys.readouterr().out.splitlines()[-3:])
    choice = ["method=fish", "plugins=[fish]", "--config-dir", "my parts"]
    assert (train, check) == (["gradalign", "train", *choice], ["gradalign", "check", *choice])
    assert Path(test[-1]).exists()


def test_a_part_that_breaks_a_rule_is_told_with_advice_and_exit_code_1(folder, capsys):
    main(["new", "method", "upside_down"])
    code = folder / "mine/upside_down.py"
    code.write_text(code.read_text().replace("g - state.share", "g + state.share"))
    choice = ["method=upside_down", "plugins=[upside_down]", "--config-dir", "mine"]
    capsys.readouterr()
    assert main(["check", *choice]) == 1
    output = capsys.readouterr().out
    assert "it claims does_not_lengthen, which is not true of" in output
    assert "look at the sign" in output


def test_new_replaces_nothing_and_takes_no_name_that_cannot_be_imported(folder, capsys):
    main(["new", "method", "twice"])
    before = (folder / "mine/twice.py").read_text()
    capsys.readouterr()
    assert "mine/twice.py exists" in refusal(capsys, "new", "buffer", "twice")
    assert "mine/method/twice.yaml exists" in refusal(capsys, "new", "method", "twice")
    assert (folder / "mine/twice.py").read_text() == before
    assert not (folder / "mine/buffer").exists()
    for name in ("Half", "a-b", "../x", "1st", "class", "x" * 61):
        assert "`NAME` must be small letters" in refusal(capsys, "new", "method", name)
    assert "`NAME` must be no method of gradalign's own" in refusal(capsys, "new", "method", "gem")
    assert "found 'json'" in refusal(capsys, "new", "method", "json")
    assert "did you mean `method`?" in refusal(capsys, "new", "methods", "x")
    assert not (folder / "mine/method/json.yaml").exists()


def test_check_asks_for_a_part_and_refuses_what_train_refuses(capsys):
    assert "must be told a part as in method=agem" in refusal(capsys, "check", "batch_size=5")
    assert "did you mean `gem`?" in refusal(capsys, "check", "method=gen")
    assert "`method.margin` must be" in refusal(capsys, "check", "method=gem", "method.margin=-1")


def test_a_file_cannot_say_whose_code_check_and_explain_run(folder, capsys):
    main(["new", "method", "sent"])
    yaml = folder / "mine/method/sent.yaml"
    yaml.write_text(
        "# @package _global_\nplugins: [sent]\n"
        "method: {name: sent, _target_: sent.sent, share: 0.5}\n"
    )
    capsys.readouterr()
    for verb in (["check", "method=sent"], ["explain", "sent"]):
        assert "`plugins` must be given on the command line" in refusal(
            capsys, *verb, "--config-dir", "mine"
        )
    assert "sent" not in sys.modules
